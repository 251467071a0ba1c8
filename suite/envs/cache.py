"""Files that save time: made again wherever they are missing, damaged or of other versions.

They lie in the user's cache directory, `$XDG_CACHE_HOME/mtscale` or `~/.cache/mtscale`. Each file
begins with the SHA-256 of what follows. Deleting them is safe at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def cache_file(kind: str, key: Any) -> Path:
    """Where the data of `key`, anything that JSON can write, is kept among its `kind`."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return base / "mtscale" / kind / digest


def load(path: Path) -> bytes | None:
    """What was stored at `path`, or None where it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:32], data[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def store(path: Path, content: bytes) -> None:
    """Write `content` to the cache; an unwritable cache costs time, never a run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readers see the whole file or none: many workers may start at once.
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return
