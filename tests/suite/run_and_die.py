"""Runs the suite's command line and kills itself, SIGKILL, at a chosen moment of a file write.

`python run_and_die.py <n> <where> bench ...`: at the n-th call of `where`, "before" or "during"
(half of the bytes are on the disk) a file's atomic write. n = 0 never dies.
"""

import os
import signal
import sys
from pathlib import Path

from suite.cli import main
from suite.runs import checkpoint, directory, files, finished, manifest


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    deadly, where = int(sys.argv[1]), sys.argv[2]
    write, calls = files.write_atomically, 0

    def counted(path: Path, data: bytes) -> str:
        global calls
        calls += 1
        if calls == deadly:
            if where == "during":
                path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])
            die()
        return write(path, data)

    for module in (checkpoint, directory, finished, manifest):
        module.write_atomically = counted
    raise SystemExit(main(sys.argv[3:]))
