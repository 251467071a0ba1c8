"""The parts of `gpu.py`: each prepares itself, says so, and then measures.

A number `over` is relative to what stands in the note, measured in turns with it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Problem
from algorithms.parts.randomness import generator
from suite.cli import main as cli
from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv
from suite.presets import preset
from suite.process import prepare
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.training.build import build
from suite.training.capture import WARM_CALLS
from suite.training.compiling import compile_learners, settle
from suite.training.learner import Learner
from suite.training.replay import Replay
from suite.training.train import Trainer

Row = dict[str, Any]
Steps = Iterator[list[Row]]
"""A part: what it yields first is nothing, once it is ready; then come its rows."""
REHEARSAL = "--rehearse" in sys.argv
DEVICE = torch.device("cpu" if REHEARSAL else "cuda")
SIZES, QUICK = ("smoke", "smoke") if REHEARSAL else ("scaling", "small")
TURNS = 2 if REHEARSAL else 5
PRECISION = {"float32": "highest", "tf32": "high"}


def row(measured: str, value: float, unit: str, over: float | str = "", note: str = "") -> Row:
    return {"measured": measured, "value": value, "unit": unit, "over": over, "note": note}


def wait() -> None:
    if not REHEARSAL:
        torch.cuda.synchronize()


def milliseconds(
    function: Callable[[], Any], calls: int, before: Callable[[], Any] = lambda: None
) -> float:
    """Of one of some calls in a row, after another that does not count."""
    calls = 2 if REHEARSAL else calls
    before()
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    wait()
    return (time.perf_counter() - start) / calls * 1e3


def in_turns(*functions: tuple[Any, ...]) -> list[float]:
    """Median of the `milliseconds` of each, given with its arguments."""
    times = [[milliseconds(*one) for one in functions] for _ in range(TURNS + 1)]
    return [float(x) for x in np.median(times[1:], axis=0)]


def learner(
    name: str,
    seed: int = 0,
    sizes: str = SIZES,
    compiled: bool = True,
    recorded: bool = True,
    **fields: Any,
) -> Learner:
    """A learner with a preset's sizes, but for `fields`, on a full replay of made-up rows."""
    config = preset(sizes, name, "MT10")
    settings = replace(config.settings, **fields)
    made = load(name)(settings, Problem(config.tasks, seed=seed, device=DEVICE))
    replay = Replay(10, 2000, made.extras, DEVICE, generator(seed, "replay", DEVICE))
    replay.rows.normal_(generator=generator(seed, "rows", DEVICE))
    replay.count(replay.capacity)
    replay.held.fill_(replay.size)
    for key, stored in made.act(replay.rows[..., :39], explore=True).extras.items():
        replay.extras[key] = stored
    if compiled:
        settle(DEVICE.type)
        made.compile()
    one = Learner(made, replay, config.training.batch_per_task)
    one.learning.plain |= not recorded
    wait()  # until the replay is full: the learner has a stream of its own
    for _ in range(WARM_CALLS + 2):
        one.learn()
    return one


def layers(copies: int, rows: int, sizes: list[int]) -> tuple[list[Any], list[Any], list[Any]]:
    """Products of MLPs side by side: forward pass, weight gradients, input gradients."""
    pairs = list(itertools.pairwise(sizes))
    forward = [(copies, rows, a, b) for a, b in pairs]
    weights = [(copies, a, rows, b) for a, b in pairs]
    return forward, weights, [(copies, rows, b, a) for a, b in pairs]


def products(width: int, rows: int) -> Callable[[], Any]:
    """The matrix products of a step of MT-SAC, and nothing else; on a GPU as one graph."""
    forward, weights, inputs = layers(1, rows, [39, width, width, width, 8])
    q_forward, q_weights, q_inputs = layers(2, rows, [43, width, width, width, 1])
    step = forward + q_forward + q_forward + q_weights + q_inputs[1:]
    step += forward + q_forward + q_inputs + weights + inputs[1:]
    buffers = {
        (n, a, b, c): [torch.randn(n, *s, device=DEVICE) for s in ((a, b), (b, c), (a, c))]
        for n, a, b, c in set(step)
    }

    def run() -> None:
        for shape in step:
            left, right, out = buffers[shape]
            torch.bmm(left, right, out=out)

    run()
    if REHEARSAL:
        return run
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def kernels(function: Callable[[], Any]) -> tuple[list[tuple[str, float]], float]:
    """Each kernel of a call with its microseconds, and their sum in milliseconds."""
    if REHEARSAL:
        return [], 0.0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        wait()
    found = [(event.name, event.device_time_total) for event in profile.events()]
    found = [(name, taken) for name, taken in found if taken > 0]
    return found, sum(taken for _, taken in found) / 1e3


def heaviest(found: list[tuple[str, float]], most: int = 14) -> list[Row]:
    """A row per kind of kernel, the longest first."""
    total: dict[str, list[float]] = {}
    for name, taken in found:
        total.setdefault(name[:90], []).append(taken)
    order = sorted(total, key=lambda name: -sum(total[name]))[:most]
    return [
        row(f"kernel {name.replace('|', '/')}", sum(total[name]), "µs", "", f"{len(total[name])} ×")
        for name in order
    ]


def agreement(name: str, one: Learner, **fields: Any) -> list[Row]:
    """How far a compiled and recorded learner is from a plain one after the same steps."""
    plain = learner(name, compiled=False, recorded=False, **fields)
    found, expected = one.metrics(), plain.metrics()
    apart = max(
        float(np.abs(found[key][:5] - value[:5]).max() / max(np.abs(value[:5]).max(), 1e-12))
        for key, value in expected.items()
    )
    graph = "recorded" if one.learning.graph is not None else "NOT RECORDED"
    return [row("compiled and recorded against plain, 5 steps", apart, "relative", "", graph)]


def update(name: str, precision: str, width: int = 0, compiled: bool = True) -> Steps:
    """One gradient step, over its own matrix products where it is MT-SAC's."""
    torch.set_float32_matmul_precision(PRECISION[precision])
    fields = {"actor_width": width, "critic_width": width} if width else {}
    start = time.perf_counter()
    one = learner(name, compiled=compiled, **fields)
    compiling = time.perf_counter() - start
    agree = agreement(name, one, **fields)
    calls = 100 if width < 2048 else 30
    bound = products(width, 10 * one.batch_per_task) if width else None
    yield []
    if bound is None:
        (taken,), over, note = in_turns((one.learn, calls)), "", ""
    else:
        taken, own = in_turns((one.learn, calls), (bound, calls))
        over, note = taken / own, f"products alone {own:.3f} ms"
    found, busy = kernels(one.learn)
    yield [
        row("a gradient step", taken, "ms", over, note),
        row("its kernels", float(len(found)), "", "", f"{busy:.3f} ms busy"),
        row("built and compiled", compiling, "s", "", "beside the other parts"),
        *agree,
        *heaviest(found),
    ]


def trainer(
    name: str,
    sizes: str,
    seeds: int = 1,
    compiled: bool = True,
    tasks: str = "MT10",
    **execution: Any,
) -> tuple[Trainer, Path]:
    """A run of a preset's sizes with rounds of 200 steps, in a folder that is to be removed."""
    torch.set_float32_matmul_precision(PRECISION["tf32"])
    folder = Path(tempfile.mkdtemp())
    config = preset(sizes, name, tasks)
    config = replace(
        config,
        device=str(DEVICE),
        task=replace(config.task, horizon=20 if REHEARSAL else 200),
        training=replace(config.training, random_steps=20, buffer_per_task=5000),
        execution=replace(config.execution, results=str(folder), seeds=str(seeds), **execution),
    )
    runs = config.each_seed()
    made = build(runs, [RunDirectory(run) for run in runs], Progress("", 10**9))
    if compiled:
        compile_learners(made, "compiled")
    return made, folder


def close(made: Trainer, folder: Path) -> None:
    made.envs.close()
    made.evaluation_envs.close()
    shutil.rmtree(folder)


def loop(name: str, sizes: str, seeds: int = 1) -> Steps:
    """A vector step of training, against the longer of its two halves; then an evaluation."""
    made, folder = trainer(name, sizes, seeds)
    for _ in range(2):
        made.train_round()
    yield []
    steps, per_seed = made.config.task.horizon, 10 * made.config.task.envs_per_task
    training = made.config.training
    per_step = training.updates_per_step / training.update_every
    whole = milliseconds(made.train_round, 3) / steps
    sent = np.zeros((made.envs.envs, 4), np.float32)
    goals = [goal for run in made.runs for goal in run.start_round(made.round)]

    def reset() -> None:
        made.envs.reset(goals)

    def vector_step() -> None:
        made.envs.send(sent)
        made.envs.receive()

    def learn() -> None:
        for run in made.runs:
            run.learner.learn()

    def act() -> None:
        for run in made.runs:
            run.learner.act()
        for run in made.runs:
            run.learner.decided()

    envs, updates, acts = in_turns((vector_step, 200, reset), (learn, 200), (act, 200))
    halves = f"envs {envs:.3f} ms, gradient step {updates:.3f}, act {acts:.3f}"
    rows = [
        row("a vector step", whole, "ms", whole - max(envs, updates * per_step), halves),
        row("training", seeds * per_seed / whole * 1e3, "env steps/s", "", "over: ms above"),
    ]
    for run in made.runs:
        run.learner.metrics()
    if seeds == 1:
        rows += evaluation(made)
    close(made, folder)
    yield rows


def evaluation(made: Trainer) -> list[Row]:
    """Every goal once, against what the pool steps alone."""
    envs, horizon = made.evaluation_envs, 20 if REHEARSAL else 500
    task = replace(made.config.task, horizon=horizon)
    episodes = replace(made.config.evaluation, eval_episodes=5 if REHEARSAL else 50)
    for run in made.runs:
        run.config = replace(run.config, task=task, evaluation=episodes)
    first = milliseconds(made.evaluate, 1) / 1e3
    taken = milliseconds(made.evaluate, 1) / 1e3
    done = 10 * horizon * made.config.evaluation.eval_episodes
    sent = np.zeros((envs.envs, 4), np.float32)

    goals = [g for run in made.runs for own in run.goals.evaluation(5) for g in own]
    envs.reset(goals)

    def steps() -> None:
        for part in range(len(envs.parts)):
            envs.send(sent, part)
        for _ in range(200):
            for part in range(len(envs.parts)):
                envs.receive()
                envs.send(sent, part)
        for _ in envs.parts:
            envs.receive()

    alone = envs.envs * 201 / milliseconds(steps, 1) * 1e3
    note = f"pool alone {alone:,.0f} env steps/s"
    return [
        row("the first evaluation", first, "s", "", "with recording and plasticity"),
        row("an evaluation", taken, "s", done / taken / alone, f"over: share of speed, {note}"),
    ]


def pool() -> Steps:
    """The envs alone, by workers; the same task everywhere shows what the cores can."""
    yield []
    cores = len(os.sched_getaffinity(0))
    rows = [row("cores", float(cores), "", "", siblings())]
    tried = [(["reach-v3"] * count, count) for count in (1, 4, 8, 16)]
    mt10 = list(Goals("MT10", "preset", 0, 0, "fast").names)
    tried += [(mt10, 5), (mt10, 10), (mt10 * 5, 16)]
    for names, workers in tried:
        if workers > cores:
            continue
        with VectorEnv(names, 1, "v2", "fast", workers) as envs:
            goals = Goals(",".join(dict.fromkeys(names)), "preset", 0, 0, "fast").training(0, 1)
            envs.reset([goals[i % len(goals)] for i in range(len(names))])
            sent = np.random.default_rng(0).uniform(-1, 1, (len(names), 4)).astype(np.float32)

            def step(envs: VectorEnv = envs, sent: Any = sent) -> None:
                envs.send(sent)
                envs.receive()

            taken = milliseconds(step, 200)
        what = "reach" if len(set(names)) == 1 else "MT10"
        speed = len(names) / taken * 1e3
        rows.append(row(f"{what}, {len(names)} envs, {workers} workers", speed, "env steps/s"))
    yield rows


def siblings() -> str:
    """Which logical cores share a physical one, as far as the kernel says."""
    path = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    return f"core 0 with {path.read_text().strip()}" if path.exists() else "topology unknown"


def seeds() -> Steps:
    """Five seeds side by side against five one after the other."""
    torch.set_float32_matmul_precision(PRECISION["tf32"])
    several = [learner("mtsac", seed, QUICK) for seed in range(5)]
    yield []

    def together() -> None:
        for one in several:
            one.learn()

    taken, alone = in_turns((together, 100), (several[0].learn, 100))
    note = f"one alone {alone:.3f} ms"
    yield [row(f"five seeds' gradient steps, {QUICK}", taken, "ms", 5 * alone / taken, note)]


def train() -> Steps:
    """Every method on two tasks, not compiled: does it learn there, and recorded?"""
    yield []
    for name in ALGORITHMS:
        try:
            made, folder = trainer(name, QUICK, compiled=False, tasks="reach,push", workers=2)
            for _ in range(3):
                made.train_round()
            start, one = time.perf_counter(), made.runs[0]
            made.train_round()
            taken = time.perf_counter() - start
            note = "recorded" if one.learner.learning.graph is not None else "not recorded"
            close(made, folder)
            yield [row(f"{name}, {QUICK}", made.config.task.horizon / taken, "steps/s", "", note)]
        except Exception as error:  # one method's failure is a row, not the end
            why = (str(error).splitlines() or [type(error).__name__])[0]
            yield [{"measured": f"{name} FAILED", "note": why[:160]}]


def whole() -> Steps:
    """A run as its user begins it, and one of two seeds together."""
    yield []
    for more in ([], ["--seeds", "2", "--batched"]):
        with tempfile.TemporaryDirectory() as folder:
            command = ["bench", "--alg", "mtsac", "--preset", "smoke", "--tasks", "reach,push"]
            command += ["--device", DEVICE.type]
            start = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                status = cli([*command, "--track", "none", "--results", folder, *more])
            taken = time.perf_counter() - start
            note = "" if status == 0 else f"FAILED, exit status {status}"
            yield [row(" ".join(["make bench, smoke", *more]), taken, "s", "", note)]


PARTS: dict[str, Callable[[], Steps]] = {
    "whole": whole,
    "update mtsac 400 tf32": partial(update, "mtsac", "tf32", 400),
    "loop mtsac": partial(loop, "mtsac", SIZES),
    "loop five seeds": partial(loop, "mtsac", QUICK, 5),
    **{
        f"update mtsac {width} tf32": partial(update, "mtsac", "tf32", width)
        for width in (1024, 2048, 4096)
    },
    "update mtsac 400 float32": partial(update, "mtsac", "float32", 400),
    "update mega tf32": partial(update, "mega", "tf32"),
    "update d2r tf32": partial(update, "d2r", "tf32"),
    "seeds": seeds,
    "pool": pool,
    "train": train,
    **{
        f"update mtsac {width} float32": partial(update, "mtsac", "float32", width)
        for width in (1024, 2048, 4096)
    },
}
"""Those that matter most first: in this order they measure."""
SLOW = ("update mega tf32", "update d2r tf32")
"""Those that compile for minutes, and do so at low priority."""


def main() -> None:
    prepare()
    name = sys.argv[1]
    steps = PARTS[name]()
    next(steps)
    print("ready", flush=True)
    sys.stdin.readline()
    for rows in steps:
        for one in rows:
            print(json.dumps({"part": name, **one}), flush=True)


if __name__ == "__main__":
    main()
