"""Files that save time: made again wherever they are missing, damaged or of other versions.

They lie in the user's cache directory, `$XDG_CACHE_HOME/mtscale` or `~/.cache/mtscale`. Each file
begins with the SHA-256 of its key, which tells the task and the versions, and of what follows.
Nobody else's file is read. Deleting them is safe at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PART = ".part"
OLD_SECONDS = 3600.0
"""A file that is half written for so long was left by a kill."""


def cache_file(kind: str, key: Any) -> Path:
    """Where the data of `key`, anything that JSON can write, is kept among its `kind`.

    Raises OSError where the user has no home.
    """
    return cache_folder(kind) / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def cache_folder(kind: str) -> Path:
    """The user's folder for one kind of data. Raises OSError where the user has no home."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return base / "mtscale" / kind


def seal(key: Any, content: bytes) -> bytes:
    """The digest that an entry begins with."""
    return hashlib.sha256(json.dumps(key).encode() + b"\0" + content).digest()


def load(kind: str, key: Any, decode: Callable[[bytes], T]) -> T | None:
    """What was stored for `key`, decoded; None where it is missing, damaged or another user's."""
    try:
        data = own_bytes(cache_file(kind, key))
    except OSError:
        return None
    digest, content = data[:32], data[32:]
    if seal(key, content) != digest:
        return None
    try:
        return decode(content)
    except Exception:
        return None  # whatever is wrong with it, it is made again


def own_bytes(path: Path) -> bytes:
    """A file's bytes; raises OSError unless it is a plain file that this user alone can write."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError(f"{path} can be written by others")
        if found.st_uid != os.geteuid():
            raise OSError(f"{path} is another user's")
        return file.read()


def store(kind: str, key: Any, content: bytes) -> None:
    """Keeps `content` for `key`; an unwritable cache costs time, never a run."""
    with contextlib.suppress(OSError):
        path = cache_file(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        delete_old_parts(path.parent)
        # Readers see the whole file or none: many workers may start at once.
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(seal(key, content) + content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def delete_old_parts(folder: Path) -> None:
    """Deletes what killed processes left half written."""
    for part in folder.glob(f"*{PART}"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > OLD_SECONDS:
                part.unlink()
