"""Points of the contract that show in a run: acting, learning, measuring, saving and chance."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from algorithms.algorithm import Algorithm, Batch
from algorithms.trial import (
    STEPS,
    B,
    Broken,
    N,
    T,
    Trial,
    alike,
    demand,
    differs,
    global_states,
    lived,
    made_up,
    outcomes,
    state_of,
    transitions,
)


def words(where: str | None) -> str:
    """A path, to be read."""
    return (where or "").strip("/").replace("/", ".") or "everything"


def looked(algorithm: Algorithm, batch: Batch) -> dict[str, Mapping[str, Tensor]]:
    """The weights of each network in a probe; none where it cannot be measured, which is a point of
    its own.
    """
    try:
        return {name: probe.weights for name, probe in algorithm.probe(batch, 0).items()}
    except ValueError:
        return {}


def acts(trial: Trial) -> None:
    """Actions are [T, N, A] float32 in [−1, 1], with the extras that are declared."""
    algorithm = trial.build()
    for scale in (1.0, 100.0):
        for explore in (True, False):
            with alike(0):
                decision = algorithm.act(scale * made_up(T, N, 39, seed=0), explore)
            actions = decision.actions
            check_actions(actions, T)
            shape = f"{tuple(actions.shape)} {actions.dtype}"
            demand(actions.dtype == torch.float32, f"act returns {shape}: make it float32")
            demand(not actions.requires_grad, "act must not record gradients: use torch.no_grad()")
            demand(actions.isfinite().all(), "actions are not finite for observations of 100")
            demand(actions.abs().max() <= 1, "actions leave [−1, 1]: squash or clamp them")
            if explore:
                check_extras(algorithm, decision.extras, T)


def check_actions(actions: Tensor, tasks: int) -> None:
    """One for every env."""
    shape = f"{tuple(actions.shape)} {actions.dtype}"
    demand(actions.shape == (tasks, N, 4), f"act returns {shape} for [T, N, 4] float32")


def check_extras(algorithm: Algorithm, extras: Mapping[str, Tensor], tasks: int) -> None:
    """What the replay is to carry is what was declared."""
    names = sorted(extras.keys() ^ algorithm.extras.keys())
    demand(not names, f"extras: {names[:1]} is declared and not returned, or the reverse")
    for name, (shape, dtype) in algorithm.extras.items():
        found, value = (tasks, N, *shape), extras[name]
        fits = value.shape == found and value.dtype == dtype
        demand(fits, f"extras: {name} is {tuple(value.shape)} {value.dtype}, not as declared")


def evaluates_alike(trial: Trial) -> None:
    """Acting for evaluation is the same each time, or sampled where that is asked for; and changes
    nothing.
    """
    algorithm, x = trial.build(), made_up(T, N, 39, seed=1)
    before = state_of(algorithm)
    first = algorithm.act(x, explore=False).actions.clone()
    where = differs(before, state_of(algorithm))
    demand(where is None, f"act(explore=False) changes {words(where)}")
    algorithm.act(x, explore=True)
    again = algorithm.act(x, explore=False).actions
    demand(torch.equal(first, again), "act(explore=False) must not draw: return the policy's mode")
    if "evaluated_actions" in {f.name for f in fields(trial.kind.Settings)}:
        sampled = trial.build(evaluated_actions="sample")
        first, again = (sampled.act(x, explore=False).actions.clone() for _ in range(2))
        demand(
            (first != again).flatten(1).any(1).all(),
            "evaluated_actions sample is not carried out: `decide` returns the mode where it is "
            "given no noise alone",
        )


def explores(trial: Trial) -> None:
    """Exploring is by chance, for every task."""
    algorithm, x = trial.build(), made_up(T, N, 39, seed=1)
    with alike(0):
        first, second = (algorithm.act(x, explore=True).actions.clone() for _ in range(2))
    moved = (first != second).flatten(1).any(1)
    demand(moved.all(), "act(explore=True) gives the same actions twice: sample them")


def learns(trial: Trial) -> None:
    """A gradient step changes actor and critics; its metrics are finite, [T] or scalar, the same
    ones every time.
    """
    algorithm = trial.build()
    before = state_of(algorithm)
    with alike(0):
        batch = transitions(algorithm, 0)
        kept = copy.deepcopy([*batch[:5], dict(batch.extras)])
        weights = copy.deepcopy(looked(algorithm, batch))
        metrics = algorithm.update(batch)
        after = looked(algorithm, batch)
    demand(bool(metrics), "update returns no metric: return at least the critics' loss")
    check_metrics(metrics, T)
    for name, value in metrics.items():
        demand(value.isfinite().all(), f"update: the metric {name} is not finite")
        demand(not value.requires_grad, f"update: detach the metric {name}")
    demand(differs(before, state_of(algorithm)) is not None, "update changes nothing in state_dict")
    still = [name for name in weights if differs(weights[name], after[name]) is None]
    demand(not still, f"update does not change the weights of {', '.join(still)}")
    same = differs(kept, [*batch[:5], dict(batch.extras)]) is None
    demand(same, "update writes into the batch, which the replay may own: copy it")
    with alike(1):
        more = algorithm.update(transitions(algorithm, 1))
    first, second = ([(k, tuple(v.shape)) for k, v in found.items()] for found in (metrics, more))
    demand(first == second, "update must return the same metrics, in shape and order, every time")


def check_metrics(metrics: Mapping[str, Any], tasks: int) -> None:
    """Each can be a row of every task, or one of all."""
    for name, value in metrics.items():
        tensor = isinstance(value, Tensor)
        demand(tensor, f"update: the metric {name} is a {type(value).__name__}; give a tensor")
        shape = tuple(value.shape)
        fits = shape in ((), (tasks,))
        demand(fits, f"update: the metric {name} is {shape}; give [T] or a scalar")


def can_train(trial: Trial) -> None:
    """Without these no run goes on: it acts and learns, and what comes of that can be stored."""
    algorithm, tasks = trial.build(), len(trial.problem().tasks)
    with alike(0):
        for explore in (True, False):
            decision = algorithm.act(made_up(tasks, N, 39, seed=0), explore)
            check_actions(decision.actions, tasks)
            if explore:
                check_extras(algorithm, decision.extras, tasks)
        batch = transitions(algorithm, 0, tasks, samples=trial.batch)
        check_metrics(algorithm.update(batch), tasks)


def one_task_suffices(trial: Trial) -> None:
    """One task in one env can be trained."""
    algorithm = trial.build(tasks=1, envs=1)
    with alike(0):
        metrics = algorithm.update(transitions(algorithm, 0, 1, 1))
        algorithm.end_episodes(outcomes(0, 1, 1))
    finite = all(value.isfinite().all() for value in metrics.values())
    demand(finite, "metrics of a single task are not finite")


def is_measured(trial: Trial) -> None:
    """Every network's hidden units, weights and gradients can be measured, and all are counted."""
    algorithm = trial.build()
    with alike(0):
        batch = transitions(algorithm, 0)
        for extras in (batch.extras, {}):
            try:
                probes = algorithm.probe(batch._replace(extras=extras), 0)
            except ValueError as error:
                raise Broken(str(error)) from None
    demand("actor" in probes and len(probes) > 1, f"probe shows {', '.join(probes)} alone")
    for name, probe in probes.items():
        demand(len(probe.activations) > 0, f"probe: no hidden units of {name}")
        for layer, units in probe.activations.items():
            shape = tuple(units.shape)
            flat = len(shape) == 2 and shape[0] == T * B
            demand(flat, f"probe: units of {name} {layer} are {shape}; give [T·B, units]")
            demand(units.isfinite().all(), f"probe: units of {name} {layer} are not finite")
        where = differs(
            {k: tuple(w.shape) for k, w in probe.weights.items()},
            {k: tuple(g.shape) for k, g in probe.gradients.items()},
        )
        demand(where is None, f"probe: {name} has weights and gradients of another {words(where)}")
        found = any(g.any() for g in probe.gradients.values())
        demand(found, f"probe: all gradients of {name} are zero")
    sizes = {name: sum(w.numel() for w in p.weights.values()) for name, p in probes.items()}
    counts, actor = algorithm.parameter_counts(), sizes.pop("actor")
    # What the two share counts once, as either's.
    shared = sum(size for name, size in sizes.items() if not name.startswith("critic"))
    fits = counts.actor in (actor, actor + shared)
    demand(fits, f"parameter_counts: the actor has {actor:,}, not {counts.actor:,}")
    critics, seen = counts.critic + counts.actor - actor, sum(sizes.values())
    enough = critics >= seen
    demand(enough, f"parameter_counts: critics have {seen:,} and more, not {critics:,}")


def looking_changes_nothing(trial: Trial) -> None:
    """A run that is probed, reported on and saved is the run that is not."""
    plain, watched = trial.build(), trial.build()
    seen = lived(plain, range(2 * STEPS))
    again = lived(watched, range(STEPS))
    before = state_of(watched)
    with alike(0):
        batch = transitions(trial.build(), 0)
        looked(watched, batch)
        where = differs(before, state_of(watched))
        demand(where is None, f"probe changes {words(where)}")
        watched.report(batch._replace(extras={}))
        where = differs(before, state_of(watched))
        demand(where is None, f"report changes {words(where)}")
    again += lived(watched, range(STEPS, 2 * STEPS))
    demand(differs(seen, again) is None, "probe, report or state_dict changes what comes after")


def reports_by_task(trial: Trial) -> None:
    """A report has one number per task."""
    algorithm = trial.build()
    lived(algorithm, range(STEPS))
    with alike(0):
        found = algorithm.report(transitions(algorithm, 0)._replace(extras={}))
    for name, values in found.items():
        fits = len(values) == T and all(isinstance(v, float) for v in values)
        demand(fits, f"report: {name} is {values!r}; give a float for each task, or NaN")


def state_is_plain(trial: Trial) -> None:
    """A state is read from its file without running code."""
    algorithm, file = trial.build(), io.BytesIO()
    lived(algorithm, range(1))
    state = algorithm.state_dict()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception as error:  # pickle and torch raise what they like
        reason = str(error).strip().partition("\n")[0]
        raise Broken(
            "state_dict holds more than tensors, numbers, strings, lists and dicts: "
            f"{type(error).__name__}: {reason}"
        ) from None


def goes_on(trial: Trial) -> None:
    """What is saved, loaded into a new object and trained on is the run that never stopped."""
    original = trial.build()
    lived(original, range(STEPS))
    restored = trial.build()
    restored.load_state_dict(state_of(original))
    restored.due_updates = original.due_updates  # that has a point of its own
    where = differs(state_of(restored), state_of(original))
    demand(where is None, f"load_state_dict does not bring back {words(where)}")
    steps = range(STEPS, 2 * STEPS)
    where = differs(lived(restored, steps), lived(original, steps))
    where = where or differs(state_of(restored), state_of(original))
    demand(
        where is None,
        "a run that goes on from a saved state is not the run that never stopped "
        f"({words(where)} differs): a generator, a running mean or an attribute is missing "
        "in state_dict",
    )


def due_updates_survive(trial: Trial) -> None:
    """Updates that are due after the episodes' end are still due after loading."""
    algorithm = trial.build()
    for step in range(2 * STEPS):
        lived(algorithm, range(step, step + 1))
        if algorithm.due_updates:
            restored = trial.build()
            restored.load_state_dict(state_of(algorithm))
            kept = restored.due_updates == algorithm.due_updates
            demand(kept, "put due_updates into state_dict, and set it in load_state_dict")


def loaded_state_is_a_copy(trial: Trial) -> None:
    """Two methods that were loaded from one state do not share its memory."""
    original, restored = trial.build(), trial.build(seed=1)
    lived(original, range(1))
    restored.load_state_dict(original.state_dict())
    before = state_of(original)
    lived(restored, range(1, 3))
    where = differs(before, state_of(original))
    demand(where is None, f"load_state_dict keeps what it is given ({words(where)}): copy it")


def no_global_generator(trial: Trial) -> None:
    """Global generators of torch, NumPy and Python are neither moved nor read."""
    seen = []
    for seed in (1, 2):
        with alike(seed):
            before = global_states()
            algorithm = trial.kind(trial.settings(), trial.problem())
            seen.append(lived(algorithm, range(STEPS), isolated=False))
            looked(algorithm, transitions(algorithm, 0))
            algorithm.load_state_dict(state_of(algorithm))
            moved = differs(before, global_states())
            which = ("torch", "numpy", "numpy", "random")
            demand(
                moved is None,
                f"the global generator of {which[int((moved or '/0').split('/')[1])]} is moved: "
                "draw from a generator of `generators`",
            )
    demand(differs(*seen) is None, "a global generator is read: draw from one of `generators`")


def repeats(trial: Trial) -> None:
    """The same seed gives the same run."""
    first, second = (lived(trial.build(), range(STEPS)) for _ in range(2))
    where = differs(first, second)
    demand(where is None, f"two runs of one seed differ in {words(where)}: seed every generator")


def the_seed_decides(trial: Trial) -> None:
    """Another seed starts with other weights and explores otherwise."""
    one, other = trial.build(seed=0), trial.build(seed=1)
    x = made_up(T, N, 39, seed=0)
    mode = [a.act(x, explore=False).actions.clone() for a in (one, other)]
    demand(not torch.equal(*mode), "another seed starts with the same policy: use problem.seed")
    with alike(0):
        mine, others = (
            a.act(x, explore=True).actions - m for a, m in zip((one, other), mode, strict=True)
        )
    # A policy may start with next to no noise.
    alike_drawn = torch.allclose(mine, others, rtol=1e-2, atol=1e-5)
    demand(not alike_drawn, "another seed explores alike: use problem.seed")
