"""`python -m suite.sweeps.supervised PARENT bench ...`: the command line as a launcher's child.

When the launcher dies, however it dies, the run saves and stops instead of going on unseen. Env
workers import this file, so it stays small.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def supervise(parent: int) -> None:
    """Has this process terminated with its parent, and leaves a scheduler's warning to that."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    # Slurm warns every process of a job; the launcher answers by stopping this one.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if os.getppid() != parent:
        raise SystemExit(130)  # it died before this line was reached


if __name__ == "__main__":
    supervise(int(sys.argv[1]))
    from suite.cli import main

    raise SystemExit(main(sys.argv[2:]))
