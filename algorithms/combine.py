"""From the tasks' gradients g_i to the one that is stepped on: mean, PCGrad, CAGrad, GradNorm.

All of them step on Σ_i a_i g_i with a [T] that depends on the Gram matrix G = [g_i · g_j] alone, so
each method is a function from G to a. The weights that an algorithm gives its tasks
(`MultiTaskSAC.task_weights`) multiply the losses, hence the gradients, before they are combined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, library

from algorithms.fields import NotNegative, Positive, Range, Rate, Share
from algorithms.parts.adam import Adam, State
from algorithms.parts.network import Network
from algorithms.parts.task_gradients import TaskGradients, Tensors

TINY = 1e-8
"""Reference losses nearer to zero than this say nothing about how fast a task is learned."""


@dataclass(frozen=True)
class CombineSettings:
    """How the tasks' gradients become one.

    Sources: [PCGrad] is arXiv 2001.06782, [CAGrad] arXiv 2110.14048 with the authors' code,
    [GradNorm] arXiv 1711.02257, [RX] the re-implementation of PCGrad and GradNorm in the scaling
    study's code (arXiv 2503.05126), [fb] that of GradNorm in facebookresearch/mtrl.
    """

    combine: Literal["mean", "pcgrad", "cagrad", "gradnorm"] = "mean"
    """How the tasks' gradients become one: their mean [scaling], projecting conflicting gradients
    [PCGrad], conflict-averse [CAGrad], or weighted to train at one pace [GradNorm]. CAGrad's
    authors train with one temperature, as `shared_temperature` does, and an actor that is not told
    its task; here every actor is."""
    combine_on: Literal["both", "actor", "critic"] = "both"
    """The networks whose gradients are combined; the others take the mean. All critics together
    are one vector [RX]."""
    combine_scope: Literal["all", "shared"] = "all"
    """Parameters that enter: all [RX], or those that tasks share, while parameters of single tasks
    take the plain gradient [PCGrad]. GradNorm measures one shared layer in its paper, all
    parameters in [RX] and the last shared layer in [fb]."""
    combine_reduction: Literal["mean", "sum"] = "mean"
    """The combined gradient as a mean over tasks, or as a sum, T times as long, which counts where
    gradients are clipped: sum [PCGrad, GradNorm], mean [CAGrad] and PCGrad in [RX]."""
    pcgrad_order: Literal["independent", "shared", "fixed"] = "independent"
    """Order of the tasks that a gradient is projected against: drawn for each of them [PCGrad], one
    draw for all [RX], or that of the task axis."""
    pcgrad_include_self: bool = False
    """Project a gradient against its own original too, which can act after other projections: no
    [PCGrad], yes [RX]."""
    pcgrad_epsilon: NotNegative = 0.0
    """Added to squared lengths that PCGrad divides by: 0 [PCGrad], 1e-8 or 1e-9 in others' code."""
    cagrad_c: NotNegative = 0.0
    """How far CAGrad goes from the mean gradient, as a share of its length; 0 is 0.9 up to ten
    tasks and 0.5 above [CAGrad]."""
    cagrad_rescale: Literal["none", "1+c2", "1+lambda", "1+c"] = "1+c2"
    """What CAGrad's step is divided by: 1 + c² in the code, 1 + λ in its exact and 1 + c in its
    fast variant, nothing in the paper [CAGrad]."""
    cagrad_gradients: Annotated[int, Range(0, 1000)] = 0
    """Gradients that CAGrad weighs: 0 is every task's; n those of n − 1 tasks, drawn in each step,
    and the mean of the others', as the fast variant does, with 4 on MT10 and 8 on MT50 [CAGrad].
    That one divides by 1 + c, which `cagrad_rescale` does, and its code leaves one task out of the
    mean of the others."""
    cagrad_steps: Annotated[int, Range(1, 10_000)] = 20
    """Gradient steps of CAGrad's inner problem, of which the best point counts [CAGrad]; its exact
    and its fast variant solve that problem by SLSQP instead."""
    cagrad_rate: NotNegative = 0.0
    """Learning rate of those steps; 0 is 25, or 50 from fifty tasks on [CAGrad]."""
    cagrad_momentum: Share = 0.5
    """Momentum of those steps [CAGrad]."""
    gradnorm_kappa: NotNegative = 0.12
    """How strongly GradNorm speeds up tasks that lag behind; 0 makes gradients equally long: 0.12
    [RX], 1 [fb]."""
    gradnorm_rate: Rate = 3e-4
    """Adam's learning rate of GradNorm's weights: 3e-4 [RX], 1e-6 [fb]. The network steps on the
    weights from before their step, as in the paper; on the new ones in [RX]."""
    gradnorm_detach: bool = True
    """Hold the lengths that GradNorm aims at fixed in its loss [GradNorm]; not [RX]."""
    gradnorm_ratio_floor: Positive = 1e-3
    """Least ratio of a task's loss to its first one: losses of actors change sign [choice]."""

    def check_tasks(self, tasks: int) -> None:
        """Raises ValueError for what so many tasks rule out."""
        if self.combine == "cagrad" and self.cagrad_gradients > tasks:
            raise ValueError(
                f"cagrad_gradients {self.cagrad_gradients} for {tasks} tasks: give 0 to {tasks}"
            )

    def combines(self, network: str) -> bool:
        """Whether the gradients of "actor" or "critic" are combined by more than their mean."""
        return self.combine != "mean" and self.combine_on in ("both", network)


def combined(
    s: CombineSettings,
    name: str,
    state: State,
    given: Mapping[str, Tensor],
    gradients: TaskGradients,
    loss: Tensor,
    weight: Tensor,
    networks: Mapping[str, Network],
) -> Tensors:
    """The combined gradient of the networks, from those of each task's loss times its weight [T].

    `loss` is [T] or [C, T]. GradNorm also steps its own weights, which are part of the state.
    """
    weight = weight.double()
    gram = gradients.gram(own=s.combine_scope == "all") * weight[:, None] * weight
    tasks = len(weight)
    if s.combine == "pcgrad":
        order = given["pcgrad_order"][:, 0 if name == "actor" else 1]
        share = pcgrad(gram, order, s.pcgrad_include_self, s.pcgrad_epsilon)
    elif s.combine == "cagrad":
        c = s.cagrad_c or (0.9 if tasks <= 10 else 0.5)
        rate = s.cagrad_rate or (25.0 if tasks < 50 else 50.0)
        weighed = torch.eye(tasks, dtype=gram.dtype, device=gram.device)
        if s.cagrad_gradients:
            order = given["cagrad_order"][:, 0 if name == "actor" else 1]
            weighed = with_mean_of_others(weighed[order], s.cagrad_gradients)
        solver = (s.cagrad_rescale, s.cagrad_steps, rate, s.cagrad_momentum)
        share = cagrad(gram, weighed, c, *solver)
    else:
        share = gradnorm_step(s, name, state, gram, loss.view(-1, tasks).mean(0)) / tasks
    own = share if s.combine_scope == "all" else torch.full_like(share, 1 / tasks)
    factor = weight * (tasks if s.combine_reduction == "sum" else 1)
    return gradients.mixed((share * factor).float(), (own * factor).float(), networks)


def drawn(s: CombineSettings, tasks: int, random: torch.Generator) -> dict[str, Tensor]:
    """What a step draws: [T, 2, ...], for the actor and the critics."""
    if s.combine == "pcgrad":
        return {"pcgrad_order": draw_order(s, tasks, random)}
    if s.combine == "cagrad" and s.cagrad_gradients:
        noise = torch.rand(2, tasks, generator=random, device=random.device)
        return {"cagrad_order": noise.argsort(-1).T.contiguous()}
    return {}


# PCGrad ----------------------------------------------------------------------------------------


def draw_order(s: CombineSettings, tasks: int, random: torch.Generator) -> Tensor:
    """The tasks that each task's gradient is projected against, in turn: [T, 2, T], for the actor
    and the critics.
    """
    device = random.device
    if s.pcgrad_order == "fixed":
        return torch.arange(tasks, device=device).expand(tasks, 2, tasks).clone()
    rows = tasks if s.pcgrad_order == "independent" else 1
    noise = torch.rand(rows, 2, tasks, generator=random, device=device)
    return noise.argsort(-1).expand(tasks, 2, tasks).clone()


# The solvers are operators, so that torch.compile takes each as one and does not write out loops.


@library.custom_op("mtscale::pcgrad", mutates_args=())
def pcgrad(gram: Tensor, order: Tensor, include_self: bool, epsilon: float) -> Tensor:
    """PCGrad (arXiv 2001.06782) in coefficients [T] of the gradients, from G [T, T].

    g_i loses its component along every g_j that it opposes, with j in the order of `order[i]`
    [T, T]; the result is the mean. The T gradients are treated at once: `product` holds their
    inner products with the original ones.
    """
    tasks = torch.arange(len(gram), device=gram.device)
    product, against = gram, gram[order.T]  # [i, j] and [step, i, j]
    length = (gram.diagonal() + epsilon)[order]
    inverse = torch.where(length > 0, 1 / length, 0.0)
    if not include_self:
        inverse = inverse.masked_fill(order == tasks[:, None], 0.0)
    taken = torch.empty_like(gram)  # [i, step]
    for step in range(len(gram)):
        inner = product.gather(1, order[:, step, None])
        taken[:, step, None] = inner.clamp(max=0) * inverse[:, step, None]
        product = product - taken[:, step, None] * against[step]
    left = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return left.scatter_add(1, order, -taken).mean(0)


# CAGrad ----------------------------------------------------------------------------------------


@library.custom_op("mtscale::cagrad", mutates_args=())
def cagrad(
    gram: Tensor, weighed: Tensor, c: float, rescale: str, steps: int, rate: float, momentum: float
) -> Tensor:
    """CAGrad (arXiv 2110.14048) in coefficients [T] of the gradients, from G [T, T].

    Of all d with ‖d − g_0‖ ≤ c ‖g_0‖, g_0 the mean gradient, the one whose worst task gains most:
    d = g_0 + λ g_w, λ = c ‖g_0‖ / ‖g_w‖, where g_w = Σ w_i g_i and w on the simplex minimises
    g_w · g_0 + c ‖g_0‖ ‖g_w‖: the best point of gradient descent on logits, as in the code. The
    n gradients that w weighs are the tasks' or, in rows of `weighed` [n, T], mixtures of them.
    """
    epsilon = 1e-4  # of the code, which has it in every root and under ‖g_w‖
    scale = ((weighed @ gram * weighed).sum(1) + epsilon).sqrt().mean().square()
    with_mean = weighed @ gram.mean(1) / scale
    reach = c * (gram.mean() / scale + epsilon).sqrt()
    tasks, gram = len(gram), weighed @ gram @ weighed.T / scale

    logits, velocity = torch.zeros_like(with_mean), torch.zeros_like(with_mean)
    least = torch.full_like(reach, torch.inf)
    best, best_root = logits, least
    for step in range(steps + 1):
        w = torch.softmax(logits, 0)
        products = gram @ w
        root = (w @ products + epsilon).sqrt()
        objective = w @ with_mean + reach * root
        better = objective < least
        least = torch.where(better, objective, least)
        best, best_root = torch.where(better, w, best), torch.where(better, root, best_root)
        if step < steps:
            slope = with_mean + reach * products / root
            velocity = momentum * velocity + w * (slope - w @ slope)
            logits = logits - rate * velocity
    strength = reach / (best_root + epsilon)
    one = torch.ones_like(strength)
    divisors = {"none": one, "1+c2": one + c**2, "1+lambda": one + strength, "1+c": one + c}
    return (1 / tasks + strength * best @ weighed) / divisors[rescale]


def with_mean_of_others(rows: Tensor, count: int) -> Tensor:
    """The first `count` − 1 rows [T, T], and the mean of the others: [count, T]."""
    return torch.cat([rows[: count - 1], rows[count - 1 :].mean(0, keepdim=True)])


@pcgrad.register_fake
@cagrad.register_fake
def _(gram: Tensor, *_: object) -> Tensor:
    return gram.new_empty(len(gram))


# GradNorm --------------------------------------------------------------------------------------


def start_gradnorm(s: CombineSettings, state: State, tasks: int, device: torch.device) -> None:
    """Adds GradNorm's weights, which are 1, their optimiser, and room for the first losses."""
    for name in ("actor", "critic"):
        if s.combine == "gradnorm" and s.combines(name):
            state[f"{name}.pace"] = torch.ones(tasks, device=device)
            state[f"{name}.first_loss"] = torch.zeros(tasks, device=device)
            Adam(s.gradnorm_rate).start(state, f"{name}.pace")


def gradnorm_step(
    s: CombineSettings, name: str, state: State, gram: Tensor, loss: Tensor
) -> Tensor:
    """The weights v [T] to step on; then a step of v on its own loss, back to Σ v = T."""
    pace, key = state[f"{name}.pace"], f"{name}.pace"
    used = pace.double()
    first = torch.where(state[f"{key}.steps"] == 0, loss, state[f"{name}.first_loss"])
    length, kappa = gram.diagonal().sqrt(), s.gradnorm_kappa
    floor, detach = s.gradnorm_ratio_floor, s.gradnorm_detach
    slope = gradnorm_slope(used, length, loss, first, kappa, floor, detach)
    Adam(s.gradnorm_rate).step(state, key, slope.float())
    positive = pace.clamp(min=0)
    pace.copy_(positive * (len(pace) / positive.sum()))
    state[f"{name}.first_loss"].copy_(first)
    return used


def gradnorm_slope(
    weight: Tensor,
    length: Tensor,
    loss: Tensor,
    first: Tensor,
    kappa: float,
    floor: float,
    detach: bool = True,
) -> Tensor:
    """The gradient for v of Σ_i |v_i ‖g_i‖ − mean(v ‖g‖) r_i^κ|, with `detach` what is subtracted
    held fixed, [T].

    r_i is L_i / L_i(0), at least `floor`, over its mean (arXiv 1711.02257). A first loss that is
    not positive, as an actor's may be, tells no task's pace: its ratio is 1 [choice].
    """
    known = first > TINY
    ratio = torch.where(known, loss / torch.where(known, first, 1.0), 1.0).clamp(min=floor)
    norm = weight * length
    aim = (ratio / ratio.mean()) ** kappa
    sign = torch.sign(norm - norm.mean() * aim)
    return (sign if detach else sign - (sign * aim).mean()) * length
