"""Gradient steps of whatever version of this project lies in a folder, timed on demand.

`python one_update.py FOLDER ALGORITHM WIDTH BATCH THREADS MODULES`: prints `ready`, then for each
line with a number of steps the milliseconds of each. It knows both what algorithms were before an
algorithm knew one seed and what they are since; it is `test_before_speed.py` that asks.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import time
from dataclasses import fields
from typing import Any

folder, name, width, batch, threads, modules = sys.argv[1:7]
sys.path.insert(0, folder)

from suite.process import prepare  # noqa: E402 - of the folder, and before torch is loaded

prepare()

import torch  # noqa: E402

from algorithms.algorithm import Batch, Problem  # noqa: E402

TASKS = tuple(f"task {i}" for i in range(10))


def learner() -> Any:
    """The algorithm of that version, compiled where it can be."""
    module = importlib.import_module(f"algorithms.{name}")
    kind = getattr(module, {"mtsac": "MTSAC", "d2r": "D2R", "mega": "MEGA"}[name])
    settings = getattr(kind, "Settings", None) or getattr(module, f"{kind.__name__}Settings")
    known = {f.name for f in fields(settings)}
    sizes = {"actor_width": int(width), "critic_width": int(width), "modules": int(modules)}
    chosen = settings(**{key: value for key, value in sizes.items() if key in known})
    several = {"seeds": (0,)} if "seeds" in inspect.signature(Problem).parameters else {}
    made = kind(chosen, Problem(TASKS, **several))
    if hasattr(made, "compile"):
        importlib.import_module("suite.training.compiling").settle("cpu")
        made.compile()
    return made


def transitions(made: Any) -> Any:
    """A batch of made-up transitions."""
    shape = (len(TASKS), int(batch))
    seen = torch.randn(*shape, 39)
    decision = made.act(seen, True)
    extras = {key: value.clone() for key, value in dict(decision.extras).items()}
    rest = torch.rand(shape), torch.randn(*shape, 39), torch.zeros(shape), extras
    return Batch(seen, decision.actions.detach().clone(), *rest)


def main() -> None:
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    made = learner()
    given = transitions(made)
    for _ in range(3):
        made.update(given)
    print("ready", flush=True)
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            start = time.perf_counter()
            made.update(given)
            taken.append((time.perf_counter() - start) * 1e3)
        print(*taken, flush=True)


main()
