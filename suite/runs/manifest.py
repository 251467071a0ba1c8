"""A manifest: what belongs to a checkpoint, and whose it is, sealed with its own SHA-256.

Only files of the names below are ever deleted from a run's folders; what else lies there is not
the run's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from suite.runs.files import NOT_A_FILE, sha256, unreadable, write_atomically

NAMES = re.compile(r"\.?(manifest-\d{9}\.(json|damaged)|state-\d{9}\.pt|replay-\d{12}\.pt)(\.tmp)?")
"""Files of checkpoints, whole or half written."""
PARTS = re.compile(r"\.?\d{9}\.parquet(\.tmp)?")
"""Row files, whole or half written."""
ASIDE = re.compile(r"(replay-\d{12}\.pt|\d{9}\.parquet)\.damaged")
"""Segments and row files that a run has gone on without; kept until it is done."""
MANIFEST = re.compile(r"manifest-\d{9}\.json")
ROWS = "../rows.parquet"
"""What the manifest of a finished run names beside its last weights."""


class Segment(NamedTuple):
    """A file of transitions."""

    name: str
    stop: int
    """Row count of the replay at its end."""
    rows: int
    """Of each task."""


@dataclass(frozen=True)
class Manifest:
    """A checkpoint: the files that it needs, by name, relative to the manifest's folder."""

    round: int
    run: str
    """Name of the run, which no other has."""
    state: str = ""
    """File of networks, optimisers and generators; none before a run's first checkpoint."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every file."""
    segments: tuple[Segment, ...] = ()
    """Of the replay, oldest first."""
    parts: tuple[str, ...] = ()
    """Row files, oldest first, relative to the run's directory."""
    lost: tuple[str, ...] = ()
    """A line for whatever the run has gone on without."""
    began: Mapping[str, Any] = field(default_factory=dict)
    """Where and with what the run's first session ran."""

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"manifest-{self.round:09d}.json"

    def write(self, folder: Path) -> None:
        """Writes it, after all the files that it names."""
        text = json.dumps(asdict(self), indent=1)
        sealed = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text})
        write_atomically(folder / self.name, sealed.encode())

    def damaged(self, folder: Path) -> dict[str, str]:
        """The files that are not what was written, each with a line that names it.

        Raises Failure where one cannot be read, which may be whole.
        """
        lines = (line_of(folder / name, digest) for name, digest in self.files.items())
        return {name: line for name, line in zip(self.files, lines, strict=True) if line}


def line_of(path: Path, digest: str) -> str:
    """A line that names the file where it is lost or its bytes do not have the digest, else none.

    Raises Failure where it cannot be read, and may be whole.
    """
    try:
        return "" if sha256(path) == digest else f"{path} is damaged"
    except NOT_A_FILE as error:
        return f"{path}: {error.strerror}"
    except OSError as error:
        raise unreadable(path, error) from None


def read(path: Path) -> Manifest | None:
    """What a manifest says, or None where it is damaged. Raises Failure where it cannot be read."""
    try:
        sealed = json.loads(path.read_bytes())
        text = sealed["text"]
        if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
            return None
        found = json.loads(text)
        segments = tuple(Segment(*segment) for segment in found.pop("segments"))
        parts, lost = tuple(found.pop("parts")), tuple(found.pop("lost"))
        manifest = Manifest(**found, segments=segments, parts=parts, lost=lost)
    except (ValueError, KeyError, TypeError, AttributeError, *NOT_A_FILE):
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    # A copy under another name would be taken for another round.
    return manifest if manifest.name == path.name else None


def manifest_files(folder: Path) -> list[Path]:
    """Every manifest's file, newest first."""
    return own_files(folder, MANIFEST)[::-1]


def round_of(path: Path) -> int:
    """The round at whose end the manifest of this file was written."""
    return int(path.stem.rpartition("-")[2])


def own_files(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """The files in a folder that have such names, in order; folders are nobody's."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if names.fullmatch(p.name) and not p.is_dir())
