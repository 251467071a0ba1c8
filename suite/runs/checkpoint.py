"""Checkpoints that survive a kill at any instant, and say so when they do not.

A checkpoint is a manifest, written last, that names every file it needs with its SHA-256. Each file
is written under another name, flushed to the disk and renamed, so that a manifest never names half
a file. The replay is saved in segments, each written once. The files of the last two checkpoints
are kept; loading takes the newest that is whole. Tensors load with `weights_only=True`: no pickled
code runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from suite.messages import UserError

KEPT = 2


class Loaded(NamedTuple):
    """What a checkpoint held."""

    state: dict[str, Any]
    segments: list[tuple[int, dict[str, torch.Tensor]]]
    """Replay segments, oldest first, each with the row count at its end."""
    parts: list[str]
    """Names of the row files that belong to it."""
    damaged: list[str]
    """A line for each newer checkpoint that had to be passed over."""


def write_atomically(path: Path, data: bytes) -> str:
    """Writes a file so that it is either whole or not there; returns its SHA-256.

    Raises UserError where the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path}: {error.strerror} ({len(data) / 1e6:.1f} MB needed); what was "
            "saved before is intact; make room and give the same command again to resume"
        ) from error
    return hashlib.sha256(data).hexdigest()


def serialised(value: Any) -> bytes:
    """The bytes of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class CheckpointStore:
    """The checkpoints of one run, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        """SHA-256 of the segment and row files that the newest checkpoint names."""
        self.segments: list[tuple[str, int]] = []
        """Segment files, oldest first, with the row count at the end of each."""
        self.parts: list[str] = []
        """Row files, oldest first, relative to the folder's parent."""

    def saved_rows(self) -> int:
        """Rows of the replay that segments cover."""
        return self.segments[-1][1] if self.segments else 0

    def save(
        self,
        round_: int,
        state: dict[str, Any],
        segment: Mapping[str, torch.Tensor],
        written: int,
        capacity: int,
        part: tuple[str, bytes] | None,
    ) -> None:
        """Writes the checkpoint of the end of a round.

        `segment` is what the replay has gained since the last one, `written` its row count at the
        end, `part` the name and bytes of the row file that goes with it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if written > self.saved_rows():
            name = f"replay-{written:012d}.pt"
            self.files[name] = write_atomically(self.folder / name, serialised(dict(segment)))
            self.segments.append((name, written))
        if part is not None:
            relative = f"../{part[0]}"
            self.files[relative] = write_atomically(self.folder / relative, part[1])
            self.parts.append(part[0])
        # Segments that the ring has overwritten are not needed again.
        while len(self.segments) > 1 and self.segments[0][1] <= written - capacity:
            del self.files[self.segments.pop(0)[0]]
        name = f"state-{round_:09d}.pt"
        digest = write_atomically(self.folder / name, serialised(state))
        manifest = {
            "state": name,
            "files": {**self.files, name: digest},
            "segments": self.segments,
            "parts": self.parts,
        }
        text = json.dumps(manifest, indent=1)
        sealed = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "text": text})
        write_atomically(self.folder / f"manifest-{round_:09d}.json", sealed.encode())
        self.delete_unneeded()

    def manifests(self) -> list[Path]:
        """Manifest files, newest first."""
        return sorted(self.folder.glob("manifest-*.json"), reverse=True)

    def delete_unneeded(self) -> None:
        """Removes all files but those of the last two checkpoints."""
        needed = set()
        for path in self.manifests()[:KEPT]:
            with contextlib.suppress(ValueError):
                needed |= {path.name, *self.read(path)["files"]}
        for path in self.folder.iterdir():
            if path.name not in needed:
                path.unlink()

    def read(self, path: Path) -> dict[str, Any]:
        """A manifest's contents. Raises ValueError, naming the file, where it is damaged."""
        try:
            sealed = json.loads(path.read_text())
            text = sealed["text"]
            if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
                raise ValueError("checksum")
        except (ValueError, KeyError, TypeError, OSError):
            raise ValueError(f"{path} is damaged") from None
        manifest: dict[str, Any] = json.loads(text)
        return manifest

    def rounds(self) -> list[int]:
        """The rounds that there are checkpoints of, newest first."""
        return [int(path.stem.rpartition("-")[2]) for path in self.manifests()]

    def load(self, at: int | None = None) -> Loaded | None:
        """The newest whole checkpoint, or the newest up to round `at`; None where there is none.

        Raises UserError where there are checkpoints and none of them is whole.
        """
        damaged: list[str] = []
        for path, round_ in zip(self.manifests(), self.rounds(), strict=True):
            if at is not None and round_ > at:
                continue
            try:
                return self.load_from(path, damaged)
            except ValueError as error:
                damaged.append(str(error))
        if damaged:
            raise UserError(
                f"no checkpoint can be read: {'; '.join(damaged)}; to start again from nothing, "
                "add --force"
            )
        return None

    def load_from(self, manifest: Path, damaged: list[str]) -> Loaded:
        """One checkpoint. Raises ValueError, naming the file, where one is missing or damaged."""
        contents = self.read(manifest)
        for name, digest in contents["files"].items():
            try:
                with (self.folder / name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ValueError(f"{self.folder / name}: {error.strerror}") from None
            if found != digest:
                raise ValueError(f"{self.folder / name} is damaged")

        def tensors(name: str) -> Any:
            try:
                return torch.load(self.folder / name, map_location="cpu", weights_only=True)
            except Exception:
                # Its bytes are those that were written, but they are not tensors and plain data.
                raise ValueError(f"{self.folder / name} cannot be read") from None

        state = tensors(contents["state"])
        segments = [(stop, tensors(name)) for name, stop in contents["segments"]]
        self.files = {k: v for k, v in contents["files"].items() if k != contents["state"]}
        self.segments = [(name, stop) for name, stop in contents["segments"]]
        self.parts = list(contents["parts"])
        # A newer checkpoint that could not be read would come back as damaged for ever.
        for newer in self.manifests():
            if newer == manifest:
                break
            newer.rename(newer.with_suffix(".damaged"))
        return Loaded(state, segments, self.parts, damaged)
