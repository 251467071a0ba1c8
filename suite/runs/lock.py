"""The lock of a run, by which one process works on it at a time."""

from __future__ import annotations

import fcntl
import time
from typing import TextIO

from suite.messages import UserError

LOCK_SECONDS = 1.0
"""How long a held lock is tried: who only looks whether a run goes on holds it for an instant."""


class Busy(UserError):
    """Another process is working on the run."""

    status = 75
    """EX_TEMPFAIL: it will be free again."""


def locked(file: TextIO, seconds: float = 0.0) -> bool:
    """Takes the lock of a run, for as long as the file is open; False where another has it.

    The kernel drops it when a process ends, however it ends; on NFS the server does. Raises
    UserError where the file system has no locks.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise UserError(
                f"results: {file.name} cannot be locked ({error.strerror}), so that two processes "
                "could train one run; mount the folder with file locks, or choose another --results"
            ) from None
