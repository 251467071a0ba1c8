"""Hidden units: what activation functions put out, recorded call by call.

Modules (`nn.ReLU`), functions (`F.relu`, `torch.tanh`) and methods (`x.relu()`) are seen alike, and
one that is used twice counts twice. What is none of torch's activation functions is named as units
by `hidden(x)`. Gates (sigmoid, softmax) are no units.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

NAMES = (
    "relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ celu celu_ selu selu_ gelu silu mish "
    "softplus softsign tanh tanh_ tanhshrink hardtanh hardtanh_ hardswish hardshrink softshrink "
    "threshold threshold_ prelu glu"
)


def hidden(x: Tensor) -> Tensor:
    """Returns x, and says that these are hidden units: after an activation of your own."""
    if has_torch_function_unary(x):
        return handle_torch_function(hidden, (x,), x)
    return x


ACTIVATIONS: dict[Any, str] = {
    getattr(space, name): name.rstrip("_")
    for name in NAMES.split()
    for space in (functional, torch, Tensor)
    if hasattr(space, name)
} | {hidden: "hidden"}
"""Functions whose outputs are hidden units, and what their layers are called."""


class UnitRecord(TorchFunctionMode):
    """Units [S, units] by layer name, for each copy of a network; S = T·B."""

    def __init__(self, tasks: int, samples: int) -> None:
        super().__init__()
        self.tasks, self.samples = tasks, samples
        self.copy = 0
        self.units: dict[int, dict[str, Tensor]] = {}
        self.inside: list[tuple[str, nn.Module]] = []
        """Modules whose forward pass is running, outermost first."""

    @contextmanager
    def of_copy(self, copy: int) -> Iterator[None]:
        """Within, units are those of this copy of the network."""
        self.copy = copy
        try:
            yield
        finally:
            self.copy = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Whoever only passes by, such as a policy's tanh, is in no module.
        if func in ACTIVATIONS and self.inside:
            self.keep(ACTIVATIONS[func], result)
        return result

    def keep(self, function: str, result: Tensor) -> None:
        """Adds what an activation function put out, under the name of its module."""
        path, module = self.inside[-1]
        is_activation = type(module).__module__ == nn.modules.activation.__name__
        layer = path if is_activation and path else f"{path}.{function}".lstrip(".")
        own = self.units.setdefault(self.copy, {})
        calls = sum(name == layer or name.startswith(f"{layer}#") for name in own)
        name = f"{layer}#{calls + 1}" if calls else layer
        own[name] = self.by_sample(name, unmapped(result).detach().clone())

    def by_sample(self, layer: str, units: Tensor) -> Tensor:
        """[..., T, B, ..., units], or [..., T, ..., units] of tasks alone, → [T·B, units]."""
        shape, tasks, samples = list(units.shape), self.tasks, self.samples
        both = [
            axis
            for axis in range(len(shape) - 2)
            if shape[axis] == tasks and shape[axis + 1] == samples
        ]
        if both:
            return units.movedim((both[-1], both[-1] + 1), (0, 1)).reshape(tasks * samples, -1)
        if len(shape) > 1 and shape[0] == tasks * samples:
            return units.reshape(tasks * samples, -1)
        alone = [axis for axis in range(len(shape) - 1) if shape[axis] == tasks]
        if alone:  # what depends on the task alone is the same for all of its samples
            apart = units.movedim(alone[-1], 0).reshape(tasks, 1, -1)
            return apart.expand(-1, samples, -1).flatten(0, 1)
        raise ValueError(
            f"the units of {layer} have the shape {tuple(shape)}, in which there is neither the "
            f"task axis ({tasks}) nor tasks × samples ({tasks} × {samples}), so their dormancy "
            "cannot be measured; keep [T, B, ...] through the network"
        )

    def of(self, copy: int, network: str) -> dict[str, Tensor]:
        """The units of one copy. Raises ValueError where there are none."""
        if not self.units.get(copy):
            raise ValueError(
                f"no hidden units are seen in the {network}, so its plasticity cannot be measured; "
                "use torch's activation functions, or name the units: "
                "x = algorithms.parts.units.hidden(x)"
            )
        return self.units[copy]


def unmapped(x: Tensor) -> Tensor:
    """A tensor within `torch.vmap` with the axes that are mapped over, outermost first."""
    functorch = torch._C._functorch
    while functorch.is_batchedtensor(x):
        x = functorch.get_unwrapped(x).movedim(functorch.maybe_get_bdim(x), 0)
    return x


@contextmanager
def recording(module: nn.Module, tasks: int, samples: int) -> Iterator[UnitRecord]:
    """A record of the hidden units of the module's calls within."""
    record = UnitRecord(tasks, samples)
    handles = []

    def watch(path: str, part: nn.Module) -> None:
        def enter(own: nn.Module, _: Any) -> None:
            # A part that other networks use too, such as one nn.ReLU for all, counts here alone.
            if own is module or record.inside:
                record.inside.append((path, own))

        def leave(own: nn.Module, *_: Any) -> None:
            if record.inside and record.inside[-1][1] is own:
                record.inside.pop()

        handles.append(part.register_forward_pre_hook(enter))
        handles.append(part.register_forward_hook(leave, always_call=True))

    for path, part in module.named_modules():
        watch(path, part)
    try:
        with record:
            yield record
    finally:
        for handle in handles:
            handle.remove()
