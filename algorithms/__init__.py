"""What is compared: one file an algorithm. Knows nothing of files, processes or command lines."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

from algorithms.settings import D2RSettings, MEGASettings, MTSACSettings

if TYPE_CHECKING:
    from algorithms.algorithm import Algorithm


class Entry(NamedTuple):
    """Where an algorithm lives; its settings can be read without importing torch."""

    path: str
    """package.module:Class."""
    settings: type[Any]
    """Frozen dataclass of its fields."""


ALGORITHMS: dict[str, Entry] = {
    "mtsac": Entry("algorithms.mtsac:MTSAC", MTSACSettings),
    "d2r": Entry("algorithms.d2r:D2R", D2RSettings),
    "mega": Entry("algorithms.mega:MEGA", MEGASettings),
}
"""The built-in algorithms. Other packages add theirs under the entry-point group below."""

ENTRY_POINTS = "mtscale.algorithms"


def algorithm_names() -> list[str]:
    """Every name that `make bench ALG=` knows."""
    return [*ALGORITHMS, *(point.name for point in entry_points(group=ENTRY_POINTS))]


def entry(name: str) -> Entry:
    """The entry of a registered name or of `package.module:Class`.

    Raises LookupError for an unknown name, ImportError or AttributeError where a path leads
    nowhere, and TypeError where it does not lead to an `Algorithm` with `Settings`.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return Entry(point.value, load(point.value).Settings)
    if ":" in name:
        return Entry(name, load(name).Settings)
    raise LookupError(name)


def load(path: str) -> type[Algorithm]:
    """The class at `package.module:Class`; see `entry` for errors."""
    from algorithms.algorithm import Algorithm

    module, _, attribute = path.partition(":")
    if not module:
        raise ImportError(f"{path} names no module")
    found = getattr(importlib.import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise TypeError(f"{path} is not a subclass of algorithms.algorithm.Algorithm")
    if not hasattr(found, "Settings"):
        raise TypeError(f"{path} has no Settings: a frozen dataclass, perhaps empty")
    return found
