"""What is printed, where it cannot be: a reader that has gone, a full disk, another alphabet.

A run is worth more than its messages. It goes on when nobody takes them, and what could not be
written is known at the end.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Output:
    """A stream of text whose failure stops nothing: what it cannot take is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None
        """Why it took no more."""
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Writes what can be written; returns the number of characters given."""
        self.attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hands on what is buffered."""
        self.attempt(self.stream.flush)

    def attempt(self, action: Any) -> None:
        """Does it unless the stream has failed; keeps its first failure."""
        if self.error is not None:
            return
        try:
            action()
        except OSError as error:
            self.error = error
            # What is still buffered, and what other code writes, must not fail again.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def kept_going() -> Iterator[list[str]]:
    """While open, printing fails in silence; afterwards the list holds a line if it was lost.

    A reader that goes away, as `head` does, has what it wanted: that is no loss.
    """
    before, lines = (sys.stdout, sys.stderr), list[str]()
    occupy_standard_streams()
    # A stream that was closed before the start is None.
    streams = [Output(stream or io.StringIO()) for stream in before]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield lines
    finally:
        for stream in streams:
            stream.flush()
            if stream.error is not None and stream.error.errno != errno.EPIPE:
                lines.append(f"output: could not be written: {stream.error.strerror}")
        sys.stdout, sys.stderr = before


def occupy_standard_streams() -> None:
    """Opens closed ones on nothing: else the next file that is opened takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, and of child processes, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
