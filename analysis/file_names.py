"""Names of files, made of names that other people chose: safe, short, and no two alike."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 60
TASKS = 4
"""From this number of tasks on a list is named by its length."""


def file_names(wanted: Sequence[tuple[str, str]]) -> list[str]:
    """A file name, without an ending, for each (name, all that tells it from others).

    Where two would be alike, or one is too long, it ends in a digest of what tells it apart. Case
    counts as alike, as it does on some disks.
    """
    short = [re.sub(r"[^A-Za-z0-9.+-]+", "_", name)[: LONGEST + 1] for name, _ in wanted]
    count = Counter(name.casefold() for name in short)
    return [
        name
        if count[name.casefold()] == 1 and len(name) <= LONGEST
        else f"{name[: LONGEST - 8]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}".lstrip("-")
        for name, (_, whole) in zip(short, wanted, strict=True)
    ]


def task_set_name(tasks: Sequence[str]) -> str:
    """What files call a list of tasks: reach+push, or 7tasks."""
    short = [task.removesuffix("-v3") for task in tasks]
    return "+".join(short) if len(short) < TASKS else f"{len(short)}tasks"
