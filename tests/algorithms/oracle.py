"""Numbers of public implementations, `oracles/*.npz`, and their comparison with a module of ours.

Everything is float64 and must agree to 1e-10 of the largest entry, gradients too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent / "oracles"
TASKS, SAMPLES = 3, 5
Numbers = dict[str, Tensor]
Get = Callable[[str], Tensor]
"""Returns a public implementation's parameter, or its gradient, by name."""


def load(case: str) -> Numbers:
    """Everything that a file holds."""
    with np.load(FOLDER / f"{case}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def by_task(rows: Tensor) -> Tensor:
    """[15, ...] → [T, B, ...]."""
    return rows.reshape(TASKS, SAMPLES, *rows.shape[1:])


def per_task(rows: Tensor) -> Tensor:
    """What is the same for all samples of a task: [15, ...] → [T, ...]."""
    assert torch.equal(by_task(rows), by_task(rows)[:, :1].expand_as(by_task(rows)))
    return by_task(rows)[:, 0]


def inputs(data: Numbers) -> Tensor:
    """[T, B, in]: observations, and actions behind them where there are."""
    return torch.cat([by_task(data[n]) for n in ("in/obs", "in/action") if n in data], -1)


def actions_last(kernel: Tensor, data: Numbers) -> Tensor:
    """A first layer [..., in, out] that reads [action, observation], for [observation, action]."""
    actions = data["in/action"].shape[1] if "in/action" in data else 0
    return torch.cat([kernel[..., actions:, :], kernel[..., :actions, :]], -2)


def equal(ours: Tensor, theirs: Tensor, what: str = "value") -> None:
    """Asserts equal shapes, and values to 1e-10 of the largest."""
    atol = 1e-10 * max(1.0, theirs.abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol, msg=lambda m: f"{what}: {m}")


def compare(module: nn.Module, data: Numbers, arranged: Callable[[Get], Numbers]) -> Tensor:
    """Gives the module the oracle's weights; compares output and all gradients; returns the inputs.

    `arranged` says which of the public parameters is which of ours, in which orientation.
    """
    module.double()
    weights = arranged(lambda name: data[f"param/{name}"])
    assert weights.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        assert parameter.dim() == weights[name].dim(), name
        parameter.data = weights[name].contiguous()
    x = inputs(data).requires_grad_()
    output = module(x)
    result, cotangent = data.get("out/raw", data.get("out/q")), data["in/cotangent"]
    assert result is not None
    equal(output, by_task(result.reshape(TASKS * SAMPLES, -1)))
    loss = (output * by_task(cotangent.reshape(TASKS * SAMPLES, -1))).sum()
    found = torch.autograd.grad(loss, [*module.parameters(), x])
    expected = arranged(lambda name: data[f"grad/{name}"])
    for (name, _), gradient in zip(module.named_parameters(), found[:-1], strict=True):
        equal(gradient, expected[name])
    grads = [data[n] for n in ("grad_in/obs", "grad_in/action") if n in data]
    equal(found[-1], by_task(torch.cat(grads, -1)))
    return x.detach()
