"""Work on a GPU as one CUDA graph: launched at once instead of kernel by kernel.

A gradient step is some hundred small kernels whose launches take longer than they do. A graph is
recorded from a call of the very same function, so that there is no second version of it. It is used
only after it has given what the plain call gives; where recording fails or the results differ, the
plain call goes on, with one warning.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Results = dict[str, Tensor]
WARM_CALLS = 3
"""Plain calls before the recording: libraries choose their kernels and optimisers their state."""
TOLERANCE = 1e-3
"""Largest difference of a recorded call's results, relative to the largest entry of each."""


class Captured:
    """A function without arguments, recorded after a few calls; results are valid until the next.

    It must do the same kernels on the same memory at every call and take nothing from the host;
    `generators` are those that it draws from. `snapshot` returns all that it changes, copied, and
    `restore` puts that back.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], Results],
        generators: Sequence[torch.Generator],
        snapshot: Callable[[], Any],
        restore: Callable[[Any], None],
    ) -> None:
        self.name, self.function, self.generators = name, function, generators
        self.snapshot, self.restore = snapshot, restore
        self.calls = 0
        self.graph: Any = None
        self.results: Results = {}
        self.plain = False
        """Whether recording has been given up."""

    def __call__(self) -> Results:
        if self.graph is not None:
            self.graph.replay()
            return self.results
        self.calls += 1
        if self.plain or self.calls <= WARM_CALLS:
            return self.function()
        before = self.snapshot()
        expected = {name: value.clone() for name, value in self.function().items()}
        after = self.snapshot()
        try:
            self.restore(before)
            graph, results = record(self.function, self.generators)
            graph.replay()
            difference = largest_difference(results, expected)
            if difference <= TOLERANCE:
                self.graph, self.results = graph, results
                return results
            reason = f"its results differ by {difference:.1g}"
        except (RuntimeError, AttributeError) as error:
            reason = str(error).strip().partition("\n")[0]
        self.plain = True
        self.restore(after)
        print(
            f"warning: {self.name} runs without a CUDA graph, and slower: {reason}",
            file=sys.stderr,
        )
        return expected


def record(
    function: Callable[[], Results], generators: Sequence[torch.Generator]
) -> tuple[Any, Results]:
    """A graph of one call of the function and the tensors that its replays write to."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        results = function()
    return graph, results


def largest_difference(results: Results, expected: Results) -> float:
    """Largest difference of two results, relative to the largest entry of each; NaN is none."""
    worst = 0.0
    for name, value in expected.items():
        mine, own = results[name].double().nan_to_num(), value.double().nan_to_num()
        scale = max(float(own.abs().max()), 1e-6)
        worst = max(worst, float((mine - own).abs().max()) / scale)
    return worst
