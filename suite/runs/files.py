"""Files of a run: written whole or not at all, and never through somebody else's link."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import TextIO

from suite.messages import Failure

OWN = os.O_NOFOLLOW | os.O_CLOEXEC
"""A symbolic link in a file's place is refused: what it points to is not ours."""


def write_atomically(path: Path, data: bytes, durable: bool = True) -> str:
    """Writes a file so that it is either whole or not there; returns its SHA-256.

    `durable` is whether it must outlive a power cut. Raises Failure where it cannot be written,
    such as on a full disk.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # What a killed write left, or a link that somebody placed: removed, never followed.
        temporary.unlink(missing_ok=True)
        new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OWN, 0o666)
        with os.fdopen(new, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        if not temporary.is_dir():
            temporary.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        first = "make room and " if full else ""
        raise Failure(
            f"cannot write {path}: {error.strerror} ({len(data) / 1e6:.1f} MB needed); what was "
            f"saved before is intact; {first}give the same command again to resume"
        ) from error
    return hashlib.sha256(data).hexdigest()


def sync(folder: Path) -> None:
    """Flushes the names in a folder to the disk."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def opened_to_append(path: Path) -> TextIO:
    """A file opened at its end, made where it is missing. Raises OSError, also for a link."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | OWN, 0o666)

    return open(path, "a", opener=opener, encoding="utf-8", errors="backslashreplace")


NOT_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""Nothing is there, or something else: the file is lost. After any other error it may be whole, and
a second look, or another machine, may find it so.
"""


def unreadable(path: Path, error: Exception) -> Failure:
    """What to raise where a file that is there, and may be whole, cannot be read now."""
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(".")
    return Failure(
        f"{path} cannot be read: {reason}; it is left as it is: give the same command again when "
        "it can be read"
    )


def sha256(path: Path) -> str:
    """The digest of a file's bytes. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(path: Path) -> Path:
    """Renames a damaged file, so that it is neither in the way nor lost; returns its new path."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(aside)
    return aside
