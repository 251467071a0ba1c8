"""Looks into networks: hidden activations, weights and gradients by member and layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from algorithms.algorithm import NetworkProbe
from algorithms.module_stack import StackUnits

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.SiLU, nn.LeakyReLU, StackUnits)
"""Module types whose outputs are hidden units."""


@contextmanager
def recorded(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects what every activation module of `network` puts out while the context is open."""
    record: dict[str, Tensor] = {}
    handles = []

    def hook(name: str) -> Any:
        def keep(module: nn.Module, _: Any, output: Tensor) -> None:
            if isinstance(module, StackUnits):
                for index, layer in enumerate(output.detach()):
                    record[f"{name}.{index + 2}"] = layer
            else:
                record[name] = output.detach()

        return keep

    for name, module in network.named_modules():
        if isinstance(module, ACTIVATIONS):
            handles.append(module.register_forward_hook(hook(name)))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def by_member(
    name: str,
    members: int,
    activations: dict[str, Tensor],
    weights: dict[str, Tensor],
    gradients: dict[str, Tensor],
) -> dict[str, NetworkProbe]:
    """One probe for each of M stacked networks: `name` itself for M = 1, else name_0, name_1 ...

    Activations are [M, ..., units]; weights and gradients lead with the member axis.
    """

    def part(tensors: dict[str, Tensor], member: int) -> dict[str, Tensor]:
        return {layer: tensor[member] for layer, tensor in tensors.items()}

    return {
        name if members == 1 else f"{name}_{member}": NetworkProbe(
            {k: v.reshape(-1, v.shape[-1]) for k, v in part(activations, member).items()},
            part(weights, member),
            part(gradients, member),
        )
        for member in range(members)
    }
