"""Ranges of settings, declared where the field is: `discount: Share = 0.99`.

Whoever reads a command line looks them up with `range_of`. A field without a range takes any
finite number. Free of torch, so that a field can be explained and refused at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """The numbers that a field takes, both ends included unless said."""

    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    """Whether `low` itself is left out."""
    infinite: bool = False
    """Whether ±inf is allowed, as "no limit"."""

    def refusal(self, value: float) -> str | None:
        """What to say of a value that does not fit, such as "give 0 to 1"; None for one that fits.

        NaN never fits.
        """
        fits = self.low < value if self.above_low else self.low <= value
        if fits and value <= self.high and (self.infinite or abs(value) < math.inf):
            return None
        return f"give {self}"

    def __str__(self) -> str:
        low, high = f"{self.low:,.15g}", f"{self.high:,.15g}"
        if math.isinf(self.low) and math.isinf(self.high):
            return "a finite number"
        if math.isinf(self.high):
            return f"more than {low}" if self.above_low else f"{low} or more"
        return f"more than {low}, at most {high}" if self.above_low else f"{low} to {high}"


def range_of(kind: Any) -> Range | None:
    """The range in a type such as `Annotated[int, Range(1, 500)]`, or None."""
    if get_origin(kind) is not Annotated:
        return None
    return next((part for part in get_args(kind) if isinstance(part, Range)), None)


Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, 1e9, above_low=True)]
NotNegative = Annotated[float, Range(0, 1e9)]
Rate = Annotated[float, Range(0, 1, above_low=True)]
"""A learning rate."""
Count = Annotated[int, Range(1, 1_000_000)]
Width = Annotated[int, Range(1, 65_536)]
"""Units of a layer."""
Depth = Annotated[int, Range(1, 64)]
"""Layers, modules or experts."""
LogStd = Annotated[float, Range(-50, 50)]
"""Of a logarithm whose exponential float32 holds."""
Limit = Annotated[float, Range(-1e9, infinite=True)]
"""A bound from above that inf switches off."""
