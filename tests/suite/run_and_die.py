"""Runs the suite's command line and kills itself, SIGKILL, at a chosen moment.

`python run_and_die.py <n> <where> bench ...`: at the n-th atomic write of a file, "before" it or
"during" it, when half of the bytes are on the disk; before the n-th gradient step, "learning"; or
before the n-th "event" in the results folder, which is anything that changes it: then with its
whole process group. n = 0 never dies, and prints how many events there were.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# The envs' processes import this file, too, so what it needs is imported where it is needed.
if TYPE_CHECKING:
    from torch import Tensor

    from algorithms.algorithm import Batch

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def die_in_a_write(deadly: int, where: str) -> None:
    """Dies at the n-th call of `write_atomically`."""
    from suite.runs import checkpoint, directory, files, finished, manifest

    write, calls = files.write_atomically, 0

    def counted(path: Path, data: bytes, durable: bool = True) -> str:
        nonlocal calls
        calls += 1
        if calls == deadly:
            if where == "during":
                path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, data, durable)

    for module in (checkpoint, directory, finished, manifest):
        module.write_atomically = counted


def die_learning(deadly: int) -> None:
    """Dies before the n-th gradient step."""
    from algorithms.sac import MultiTaskSAC

    update, calls = MultiTaskSAC.update, 0

    def counted(self: MultiTaskSAC, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, batch)

    MultiTaskSAC.update = counted  # type: ignore[method-assign]


def die_before_an_event(deadly: int, results: str) -> None:
    """Dies before the n-th change of anything below the results folder."""
    from suite.runs import provenance

    calls = 0
    # Rows carry the commit, which may change while a storm goes on.
    provenance.commit = lambda: ""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal calls
        opened = event == "open" and bool(int(arguments[2] or 0) & WRITING)  # type: ignore[call-overload]
        if (opened or event in CHANGES) and str(arguments[0]).startswith(results):
            calls += 1
            if calls == deadly:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)
    if not deadly:
        atexit.register(lambda: print(f"events: {calls}"))


if __name__ == "__main__":
    from suite.cli import main
    from suite.process import prepare

    prepare()  # before what is patched below loads torch, as on the command line
    number, moment, *arguments = sys.argv[1:]
    if moment == "event":
        die_before_an_event(int(number), arguments[arguments.index("--results") + 1])
    elif moment == "learning":
        die_learning(int(number))
    else:
        die_in_a_write(int(number), moment)
    raise SystemExit(main(arguments))
