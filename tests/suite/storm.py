"""A storm of kills: runs that are killed over and over end with the bytes of undisturbed ones.

`make storm ARGS="--seconds 600 --seed 0"` draws runs, alone and batched, of every method. Each is
killed a few times, its whole process group at once, at a random moment or before a random change of
the results folder; then it is left to end. Prints a line for each run and a count at the end; the
exit status is 1 where anything differs, and the folder of such a run is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from smoke_runs import short

from algorithms import ALGORITHMS
from algorithms.trial import differs

SCRIPT = Path(__file__).with_name("run_and_die.py")
ROOT = Path(__file__).parents[2]
MOST_KILLS = 4
PATIENCE = 300.0
"""Seconds that one process may take."""
EVOLVING = {
    "population": "2",
    "episodes-per-individual": "1",
    "window": "2",
    "first-stage": "1",
    "success-threshold": "1",
    "improvement-threshold": "10",
}
"""With these, so short a run of MEGA breeds and grows."""


class Kind(NamedTuple):
    """What is run."""

    algorithm: str
    batched: bool

    def arguments(self, results: Path) -> list[str]:
        """The command line: enough rounds that the replay's ring wraps."""
        options = {"steps": "480", "workers": "2", "update_every": "1"}
        options |= EVOLVING if self.algorithm == "mega" else {}
        options |= {"seeds": "2", "batched": "True"} if self.batched else {}
        return short(self.algorithm, results, **options)

    def __str__(self) -> str:
        return f"{self.algorithm}{', batched' if self.batched else ''}"


class Undisturbed(NamedTuple):
    """A run that nobody has killed."""

    results: Path
    seconds: float
    events: int
    """Changes of its folder."""


class Storm:
    """The state of a storm: what has been drawn, and what came of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.draws = random.Random(seed)
        self.undisturbed: dict[Kind, Undisturbed] = {}
        self.count: Counter[str] = Counter()

    def run(self, seconds: float) -> int:
        """Runs that follow each other for so long, one at the least; returns the exit status."""
        end = time.monotonic() + seconds
        while True:
            kind = Kind(self.draws.choice(list(ALGORITHMS)), self.draws.random() < 0.4)
            self.one(kind)
            if time.monotonic() > end:
                break
        print(self)
        return int(self.count["different"] > 0)

    def one(self, kind: Kind) -> None:
        """A run that is killed, and compared."""
        whole = self.undisturbed.get(kind) or self.calm(kind)
        self.undisturbed[kind] = whole
        results = self.folder / str(self.count["runs"])
        self.count["runs"] += 1
        kills = [self.kill(kind, results, whole) for _ in range(self.draws.randint(1, MOST_KILLS))]
        status, output = ended(start(kind, results))
        wrong = differences(results, whole.results)
        if status or "Traceback" in output:
            wrong = [f"exit status {status}: {output.strip()[-500:]}", *wrong]
        self.count["different" if wrong else "same"] += 1
        print(f"{kind}: killed {', '.join(kills)}: {'; '.join(wrong) or 'the same'}", flush=True)
        if not wrong:
            shutil.rmtree(results)

    def calm(self, kind: Kind) -> Undisturbed:
        """Runs it undisturbed."""
        results, began = self.folder / f"{kind} undisturbed", time.monotonic()
        status, output = ended(start(kind, results))
        counted = re.search(r"^events: (\d+)$", output, re.MULTILINE)
        if status or not counted:
            raise SystemExit(f"undisturbed, {kind} fails: {output}")
        return Undisturbed(results, time.monotonic() - began, int(counted[1]))

    def kill(self, kind: Kind, results: Path, whole: Undisturbed) -> str:
        """Starts the run and kills its process group; returns when, in words."""
        if self.draws.random() < 0.5:
            number = self.draws.randint(1, whole.events)
            victim = start(kind, results, number)
            status, output = ended(victim)
            self.count["kills before an event" if status else "ends before the kill"] += 1
            if status not in (0, -signal.SIGKILL):
                self.count["different"] += 1
                print(f"{kind}: exit status {status}: {output.strip()[-500:]}")
            return f"before change {number}" if status else "too late"
        seconds = self.draws.uniform(0, whole.seconds)
        victim = start(kind, results)
        time.sleep(seconds)
        os.killpg(victim.pid, signal.SIGKILL)
        status, _ = ended(victim)
        self.count["kills at a random moment" if status else "ends before the kill"] += 1
        return f"after {seconds:.2f} s" if status else "too late"

    def __str__(self) -> str:
        counted = ", ".join(f"{number} {what}" for what, number in sorted(self.count.items()))
        return f"storm of seed {self.seed}: {counted}"


def start(kind: Kind, results: Path, deadly: int = 0) -> subprocess.Popen[str]:
    """A process in a group of its own, which dies before the `deadly`-th change of its results."""
    results.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(deadly), "event", *kind.arguments(results)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and output of a process; a hang is ended, and is no success."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 1, f"hung for {PATIENCE:.0f} s"
    return process.returncode, output


def differences(results: Path, undisturbed: Path) -> list[str]:
    """What is not as the undisturbed run left it, each in a few words."""
    found = []
    for one in sorted(undisturbed.iterdir()):
        other = results / one.name
        for name in ("rows.parquet", "result.json", "config.json"):
            if not (other / name).exists() or not same(one / name, other / name):
                found.append(f"{other / name} differs")
        files = [sorted(p.name for p in (run / "checkpoints").glob("*")) for run in (one, other)]
        if files[0] != files[1]:
            found.append(f"{other / 'checkpoints'} holds {files[1]}, not {files[0]}")
        elif differs(
            *(torch.load(next((run / "checkpoints").glob("*.pt"))) for run in (one, other))
        ):
            found.append(f"the weights of {other.name} differ")
        found += [f"{path} is left" for path in other.rglob(".*.tmp")]
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    return one.read_bytes() == other.read_bytes()


def main() -> int:
    """Storms for as long as the command line says."""
    parser = argparse.ArgumentParser(description="Kills runs and compares what they end with.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    status = Storm(folder, given.seed).run(given.seconds)
    if status:
        print(f"what differs is kept: {folder}")
    else:
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
