"""Which files of a directory are a run's: nothing else is taken for one's, or deleted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from suite.messages import UserError
from suite.runs.checkpoint import CheckpointStore
from suite.runs.finished import RESULT, ROWS
from suite.runs.manifest import ASIDE, MANIFEST, NAMES, PARTS, own_files

PROGRESS, LOG, FAILURE, LOCK = "progress.json", "log.txt", "failure.json", "lock"
CONFIG, PROVENANCE, TIMES = "config.json", "provenance.json", "timing.jsonl"
FOLDERS = {"checkpoints", "rows", "tensorboard", "wandb", "film"}
OURS = {
    *(CONFIG, PROVENANCE, ROWS, RESULT, PROGRESS, LOG, FAILURE, LOCK, TIMES, "timing.parquet"),
    *FOLDERS,
}
INSIDE = {
    "checkpoints": re.compile(f"{NAMES.pattern}|{ASIDE.pattern}"),
    "rows": re.compile(f"{PARTS.pattern}|{ASIDE.pattern}"),
    "film": re.compile(r"\.?(.*\.webp|film\.json)(\.tmp)?"),
}
"""What we call files in the folders of our own."""


def refuse_foreign(folder: Path, checkpoints: CheckpointStore) -> None:
    """Raises UserError where the directory holds things and is not a run's."""
    names = {plain_name(path) for path in folder.iterdir()} - {LOCK, LOG, FAILURE}
    if names and CONFIG not in names and not checkpoints.readable():
        raise UserError(f"run-dir: {folder} is not empty and not a run; name another")
    lock = folder / LOCK
    if not names and lock.exists() and lock.stat().st_size:
        raise UserError(f"run-dir: {lock} is not a run's lock; name another directory")


def refuse_misplaced(folder: Path) -> None:
    """Raises UserError for a file in the place of a folder of the run, or the reverse."""
    for path in folder.iterdir():
        if path.name in FOLDERS and not path.is_dir():
            raise UserError(f"run-dir: {path} is not a folder; move it elsewhere")
        if path.name in OURS - FOLDERS - {PROVENANCE, RESULT} and path.is_dir():
            raise UserError(f"run-dir: {path} is a folder; move it elsewhere")


def refuse_to_delete(folder: Path) -> None:
    """Raises UserError where the directory holds what is not a run's."""
    foreign = [path for path in folder.iterdir() if plain_name(path) not in OURS]
    for name, names in INSIDE.items():
        inner = folder / name
        if inner.is_dir() and not inner.is_symlink():
            ours = own_files(inner, names)
            foreign += [path for path in inner.iterdir() if path not in ours]
    if foreign:
        raise UserError(
            f"force: {folder} also holds {min(foreign).relative_to(folder)}, which is "
            "not a run's; nothing is deleted"
        )


def clear_directory(folder: Path) -> None:
    """Deletes what an earlier run left, in a directory that is claimed.

    A kill at any moment leaves a directory that is known as a run's, to be cleared again, and
    nothing that could be taken for a result. Without its rows neither result nor checkpoint
    says that a run is done, and without manifests no part of a replay is trained on.
    """
    checkpoints, config = folder / "checkpoints", folder / CONFIG
    manifests = [] if checkpoints.is_symlink() else own_files(checkpoints, MANIFEST)
    first = [folder / ROWS, folder / RESULT, *manifests]
    kept = {*first, config, folder / LOCK, folder / LOG}  # the last two are open
    others = [path for path in folder.iterdir() if path not in kept]
    for path in (*first, *others, config):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def plain_name(path: Path) -> str:
    """A file's name, also where a killed write left it under its temporary one or it is damaged."""
    name = re.sub(r"\.damaged(-\d+)?$", "", path.name)
    return name[1:-4] if name.startswith(".") and name.endswith(".tmp") else name
