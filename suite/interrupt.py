"""Ctrl-C and SIGTERM: end after the running episode, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The run stopped on request; everything up to this env step is saved."""

    status = 130
    """Exit status of a command that was asked to stop."""

    def __init__(self, env_step: int) -> None:
        super().__init__(f"saved at env step {env_step:,}")


class Interrupt:
    """While open, a first signal sets `requested`; a second one stops at once."""

    requested = False
    first = 0.0
    """When the first signal came."""

    def __enter__(self) -> Interrupt:
        self.before = [signal.signal(s, self.handle) for s in SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(SIGNALS, self.before, strict=True):
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # A scheduler may signal the group while make passes the same signal on: one request.
            if number == signal.SIGTERM and time.monotonic() - self.first < 2:
                return
            raise KeyboardInterrupt
        self.requested, self.first = True, time.monotonic()
        # A signal that comes in the middle of another line must not end what it interrupts.
        with contextlib.suppress(RuntimeError):
            print(
                "\nstopping after this episode, with a checkpoint; once more to stop at once and "
                "lose what is not saved",
                file=sys.stderr,
            )
