"""Work on a GPU as one CUDA graph: launched at once instead of kernel by kernel.

A gradient step is some hundred small kernels whose launches take longer than they do. A graph is
recorded from a call of the very same function, so that there is no second version of it. It is used
only after it has returned and changed what the plain call does; where recording fails or the two
differ, the plain call goes on, with one warning.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from suite.messages import first_line, warn

Results = dict[str, Tensor]
WARM_CALLS = 3
"""Plain calls before the recording: libraries choose their kernels and optimisers their state."""
TOLERANCE = 1e-2
"""Largest difference between what a recorded call and a plain one return, relative to the largest
entry of each result, and between what they change, relative to the largest change of each tensor.
"""


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
        record: bool = True,
    ) -> None:
        self.name, self.function, self.generators = name, function, generators
        self.snapshot, self.restore = snapshot, restore
        self.calls = 0
        self.graph: Any = None
        self.results: Results = {}
        self.plain = not record
        """Whether nothing is recorded, or recording has been given up."""

    def __call__(self) -> Results:
        if self.graph is not None:
            self.graph.replay()
            return self.results
        self.calls += 1
        if self.plain or self.calls <= WARM_CALLS:
            return self.function()
        before = self.copied()
        if before is None:
            return self.function()
        expected = {name: value.clone() for name, value in self.function().items()}
        after = self.copied()
        if after is None:
            return expected
        try:
            self.restore(before)
            graph, results = record(self.function, self.generators)
            # What was carried out instead of recorded would be missing in the replays.
            done = largest_difference(self.snapshot(), before, after)
            graph.replay()
            nothing = {name: torch.zeros_like(value) for name, value in expected.items()}
            difference = max(
                done,
                largest_difference(results, expected, nothing),
                largest_difference(self.snapshot(), after, before),
            )
            if difference <= TOLERANCE:
                self.graph, self.results = graph, results
                return results
            reason = f"its results differ by {difference:.1g}"
        except (RuntimeError, AttributeError) as error:
            reason = first_line(error)
            renew(self.generators)
        self.restore(after)
        self.give_up(reason)
        return expected

    def copied(self) -> Any:
        """A snapshot; None, and recording is given up, where the memory does not suffice for it."""
        try:
            return self.snapshot()
        except torch.OutOfMemoryError as error:
            self.give_up(first_line(error))
        return None

    def give_up(self, reason: str) -> None:
        """Stays plain from here on, and says why."""
        self.plain = True
        warn(f"{self.name} runs without a CUDA graph, and slower: {reason}")


def record(
    function: Callable[[], Results], generators: Sequence[torch.Generator]
) -> tuple[Any, Results]:
    """A graph of one call of the function and the tensors that its replays write to."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    stream = torch.cuda.current_stream()
    collects = gc.isenabled()
    # What is collected during a recording, such as an older graph, would end it.
    gc.collect()
    gc.disable()
    # torch records all graphs on one stream, and hands all that is asked there the same workspace
    # for matrix products: those of seeds that train side by side would write into each other's
    # sums. Forgotten before and after, each graph has one in memory of its own.
    forget = getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)
    forget()
    try:
        with torch.cuda.graph(graph):
            results = function()
    finally:
        forget()
        if collects:
            gc.enable()
        torch.cuda.set_stream(stream)  # a recording that fails leaves its own behind
    return graph, results


def positions(generators: Sequence[torch.Generator]) -> list[Tensor]:
    """How far each generator is."""
    return [generator.get_state() for generator in generators]


def put_back(generators: Sequence[torch.Generator], states: Sequence[Tensor]) -> None:
    """Sets the generators to such positions."""
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def renew(generators: Sequence[torch.Generator]) -> None:
    """Frees generators of a recording that failed, which some versions of torch take as going on.

    What they are to draw is for the caller to restore.
    """
    for generator in generators:
        with contextlib.suppress(RuntimeError, AttributeError):
            generator.graphsafe_set_state(torch.Generator(generator.device))


def largest_difference(mine: Any, own: Any, before: Any) -> float:
    """Largest difference of two nested states, relative to each tensor's largest change in `own`
    since `before`, never NaN. NaN in the same places is no difference, and in others an infinite
    one. What is no tensor of floats must be equal.
    """
    if isinstance(own, dict):
        parts = [(mine[key], own[key], before[key]) for key in own]
    elif isinstance(own, list | tuple):
        parts = list(zip(mine, own, before, strict=True))
    elif not isinstance(own, Tensor):
        return 0.0 if mine == own else float("inf")
    elif not own.is_floating_point():
        return 0.0 if torch.equal(mine, own) else float("inf")
    else:
        if not torch.equal(mine.isnan(), own.isnan()):
            return float("inf")
        a, b, c = (x.double().nan_to_num() for x in (mine, own, before))
        difference = float((a - b).abs().max()) if len(own.shape) == 0 or own.numel() else 0.0
        relative = difference / max(float((b - c).abs().max()), 1e-12) if difference else 0.0
        return relative if math.isfinite(relative) else float("inf")
    return max((largest_difference(*part) for part in parts), default=0.0)
