"""Everything that only a GPU can show, in one table: `make perf-gpu`, some four minutes.

Each part is a process of its own, so that one that fails or is slow costs its own lines alone. All
build and compile side by side; once most are ready, or it is time, they measure one after the
other, those that matter most first, while the slowest go on compiling at low priority. `--out
FOLDER` keeps rows and logs, `--parts a,b` runs only those whose names begin so, `--rehearse` runs
them on the CPU, at sizes that show nothing but that the lines work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from gpu_parts import PARTS, SLOW

MOST_COMPILING = 2
"""Parts that may still compile while others measure."""
MOST_SECONDS = {"whole": 40.0, "loop mtsac": 45.0, "pool": 30.0, "train": 60.0}
"""For a part's measuring; `USUAL_SECONDS` for the others."""
USUAL_SECONDS = 15.0
COLUMNS = ("part", "measured", "value", "unit", "over", "note")


@dataclass
class Part:
    """A process that prints `ready`, waits for a line, and prints its rows as JSON."""

    name: str
    log: Path
    arguments: list[str]
    process: Any = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Begins to build and to compile."""
        error: IO[str] = self.log.open("w")
        here = str(Path(__file__).parent)
        paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
        # Not the file itself, which every process that steps envs would then load, with torch.
        command = [sys.executable, "-c", "import gpu_parts; gpu_parts.main()", self.name]
        self.process = subprocess.Popen(
            [*(["nice"] if self.name in SLOW else []), *command, *self.arguments],
            env={**os.environ, "PYTHONPATH": paths, "TORCHINDUCTOR_COMPILE_THREADS": "4"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
            start_new_session=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)

    def ready(self) -> bool:
        """Whether it can measure, or has ended."""
        line = self.process.stdout.readline()
        return line == "ready\n" or self.process.poll() is not None

    def measure(self, seconds: float) -> None:
        """Lets it measure, for so long at most."""
        os.set_blocking(self.process.stdout.fileno(), True)
        output = ""
        try:
            output, _ = self.process.communicate("go\n", timeout=max(seconds, 0.1))
        except subprocess.TimeoutExpired as late:
            output = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
            self.say("not measured to its end", f"after {seconds:.0f} s")
        except BrokenPipeError:
            pass
        lines = [line for line in output.splitlines() if line[:1] == "{" and line[-1:] == "}"]
        self.rows += [json.loads(line) for line in lines]
        self.kill()
        if not self.rows:
            self.say("failed", self.last_line())

    def say(self, what: str, why: str) -> None:
        """A row without a number."""
        self.rows.append({"part": self.name, "measured": what, "note": why})

    def last_line(self) -> str:
        """What the process said last."""
        lines = [line for line in self.log.read_text().splitlines() if line.strip()]
        return lines[-1][:160] if lines else "no word"

    def kill(self) -> None:
        """Ends it with all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--parts", default="")
    parser.add_argument("--seconds", type=float, default=235, help="for everything")
    parser.add_argument("--compiling", type=float, default=85, help="of these, before any measures")
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    if not given.rehearse and not torch.cuda.is_available():
        print("error: torch finds no GPU here; --rehearse runs the same lines on the CPU")
        return 2
    out = given.out or Path(tempfile.mkdtemp(prefix="perf-gpu-"))
    out.mkdir(parents=True, exist_ok=True)
    chosen = tuple(given.parts.split(",")) if given.parts else ("",)
    arguments = ["--rehearse"] if given.rehearse else []
    names = [name for name in PARTS if name.startswith(chosen)]
    start = time.monotonic()
    parts = [Part(name, out / f"{name.replace(' ', '-')}.log", arguments) for name in names]
    waiting: list[Part] = []
    for part in parts:
        part.start()
        waiting.append(part)
    late: list[Part] = []
    """Those that are ready."""

    def left() -> float:
        return given.seconds - (time.monotonic() - start)

    while (waiting or late) and left() > 0:
        for part in [part for part in waiting if part.ready()]:
            waiting.remove(part)
            late.append(part)
            print(f"{time.monotonic() - start:5.0f} s {part.name} is ready", file=sys.stderr)
        if late and (len(waiting) <= MOST_COMPILING or given.seconds - left() > given.compiling):
            part = min(late, key=parts.index)
            late.remove(part)
            part.measure(min(left(), MOST_SECONDS.get(part.name, USUAL_SECONDS)))
        time.sleep(0.02)
    for part in [*waiting, *late]:
        part.kill()
        why = "not ready" if part in waiting else "not measured"
        part.say(why, f"after {given.seconds:.0f} s")
    rows = [row for part in parts for row in part.rows]
    (out / "rows.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))
    print(f"\n{time.monotonic() - start:.0f} s; rows and logs in {out}")
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for row in rows:
        cells = [row.get(name, "") for name in COLUMNS]
        shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
