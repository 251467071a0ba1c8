"""The gradient of each task's own loss, for the price of one backward pass.

Tasks do not mix before the loss, so `torch.func` maps the loss of one task over the task axis: the
weights that tasks share are the same for all, those in `Network.per_task` are sliced, and the T
weight gradients of a layer are one batched matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.utils._pytree import tree_map

from algorithms.parts.network import Network

TOLERANCE = 1e-3
"""Of losses and gradients that ought to be equal up to rounding, relative to the largest."""
BLOCK = 1 << 20
"""Entries of a task's gradient that are looked at together."""
Tensors = dict[str, dict[str, Tensor]]
"""Network → parameter → tensor."""
LossOf = Callable[[Any, Any], tuple[Tensor, dict[str, Tensor]]]
"""Losses [T], or [C, T] of C critics, and metrics [T, ...], from all weights and a batch."""


class TaskGradients(NamedTuple):
    """Gradients of trained parameters, each of one task's loss."""

    shared: Tensors
    """[T, *shape], of parameters that all tasks use."""
    own: Tensors
    """[T, *shape without the task axis], of those in `Network.per_task`."""

    def gram(self, own: bool) -> Tensor:
        """Inner products of the tasks' gradients, [T, T] float64, summed block by block.

        Parameters of single tasks, if they are to count (`own`), add to the diagonal alone.
        """
        products = [g @ g.T for g in rows(self.shared)]
        if own:
            products += [g.square().sum(1).diag() for g in rows(self.own)]
        return torch.stack(products).sum(0)

    def mixed(self, weight: Tensor, own: Tensor, networks: Mapping[str, Network]) -> Tensors:
        """Σ_i weight_i g_i; parameters of single tasks are weighted by `own`. Both are [T]."""
        mixed: Tensors = {}
        for name in self.shared:
            axis = networks[name].lead
            mixed[name] = {k: torch.tensordot(weight, g, 1) for k, g in self.shared[name].items()}
            for k, g in self.own[name].items():
                mixed[name][k] = (g * own.view(-1, *[1] * (g.dim() - 1))).movedim(0, axis)
        return mixed


def rows(tensors: Tensors) -> Iterator[Tensor]:
    """Gradients as [T, n] float64, which no GPU rounds to TF32, for the signs of nearly orthogonal
    pairs decide; block by block, for a copy of all would be twice as large as they are.
    """
    every = (g.flatten(1) for part in tensors.values() for g in part.values())
    return (block.double() for g in every for block in torch.split(g, BLOCK, 1))


def divided(tensors: Tensors, networks: Mapping[str, Network]) -> tuple[Tensors, Tensors]:
    """The tensors of shared parameters, and those of `per_task`, task axis first."""
    shared: Tensors = {}
    own: Tensors = {}
    for name, part in tensors.items():
        axis, per_task = networks[name].lead, networks[name].per_task
        shared[name] = {k: w for k, w in part.items() if k not in per_task}
        own[name] = {k: w.movedim(axis, 0) for k, w in part.items() if k in per_task}
    return shared, own


Result = tuple[Tensor, dict[str, Tensor], TaskGradients]
"""Losses [T], or [C, T], metrics [T, ...], and each task's gradient of its loss, which is summed
over critics."""


def by_slices(
    loss_of: LossOf,
    weights: Tensors,
    trained: tuple[str, ...],
    networks: Mapping[str, Network],
    batch: Any,
) -> Result:
    """The gradients where a loss accepts a batch of one task and the `per_task` parameters of that
    task alone. Every tensor of the batch has the task axis first.
    """
    shared, own = divided(weights, networks)

    def of_task(slices: Tensors, batch: Any) -> Any:
        def loss(shared_part: Tensors, own_part: Tensors) -> tuple[Tensor, Any]:
            whole = {
                name: {**shared[name], **shared_part.get(name, {})}
                | {
                    k: w.unsqueeze(networks[name].lead)
                    for k, w in {**slices[name], **own_part.get(name, {})}.items()
                }
                for name in weights
            }
            losses, metrics = loss_of(whole, batch)
            return losses.sum(), (losses[..., 0], metrics)

        start = {name: shared[name] for name in trained}, {name: slices[name] for name in trained}
        return grad_and_value(loss, argnums=(0, 1), has_aux=True)(*start)

    one_by_one = tree_map(lambda x: x.unsqueeze(1), batch)
    gradients, (_, (losses, metrics)) = vmap(of_task)(own, one_by_one)
    metrics = {name: value.flatten(0, 1) for name, value in metrics.items()}
    return losses.movedim(0, -1), metrics, TaskGradients(*gradients)


def by_passes(
    loss_of: LossOf,
    weights: Tensors,
    trained: tuple[str, ...],
    networks: Mapping[str, Network],
    batch: Any,
) -> Result:
    """The same gradients of any loss, for the price of T backward passes.

    Parameters of `per_task` are used by their task alone.
    """

    def function(own: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        return loss_of({**weights, **own}, batch)

    start = {name: weights[name] for name in trained}
    vjp: Any = torch.func.vjp  # with has_aux it returns three values
    losses, pull, metrics = vjp(function, start, has_aux=True)
    tasks = losses.shape[-1]
    one_hot = torch.eye(tasks, dtype=losses.dtype, device=losses.device)
    one_hot = one_hot.view(tasks, *[1] * (losses.dim() - 1), tasks).expand(-1, *losses.shape)
    (each,) = vmap(pull)(one_hot)
    shared: Tensors = {}
    own: Tensors = {}
    for name, part in each.items():
        axis, per_task = 1 + networks[name].lead, networks[name].per_task
        shared[name] = {k: g for k, g in part.items() if k not in per_task}
        # a task's gradient for the parameters of other tasks is zero
        own[name] = {
            k: g.diagonal(0, 0, axis).movedim(-1, 0) for k, g in part.items() if k in per_task
        }
    return losses.detach(), metrics, TaskGradients(shared, own)


def why_not_by_slices(
    loss_of: LossOf,
    weights: Tensors,
    trained: tuple[str, ...],
    networks: Mapping[str, Network],
    batch: Any,
) -> str:
    """Why `by_slices` would be wrong for this loss, or nothing where it is right.

    Its losses and the sum of its gradients are compared with those of one plain backward pass.
    """

    def function(own: Tensors) -> tuple[Tensor, Tensor]:
        losses, _ = loss_of({**weights, **own}, batch)
        return losses.sum(), losses

    start = {name: weights[name] for name in trained}
    plain, (_, expected) = grad_and_value(function, has_aux=True)(start)
    try:
        losses, _, gradients = by_slices(loss_of, weights, trained, networks, batch)
        ones = torch.ones_like(losses.view(-1, losses.shape[-1])[0])
        total = gradients.mixed(ones, ones, networks)
    except Exception as error:  # whatever a module says to a batch of one task
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    pairs = [(losses, expected)]
    pairs += [(total[n][k], g) for n, part in plain.items() for k, g in part.items()]
    scale = torch.stack([b.abs().max() for _, b in pairs[1:]]).max()
    for index, (found, right) in enumerate(pairs):
        size = right.abs().max() if index == 0 else scale
        if not (found - right).abs().max() <= TOLERANCE * size:
            return "a batch of one task gives it other values than its place in the whole batch"
    return ""
