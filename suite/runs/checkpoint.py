"""Checkpoints that survive a kill at any instant, and say so when they do not.

A checkpoint is a manifest, written last, that names its run and every file it needs with its
SHA-256. Each file is written under another name, flushed to the disk and renamed, so that a
manifest never names half a file. The replay is saved in segments, each written once. The files of
the last two checkpoints are kept; loading takes the newest that is whole. What is gone or has other
bytes is damaged; what cannot be read at this moment is not, and loading fails without a change.
Tensors load with `weights_only=True`: no pickled code runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from suite.messages import UserError
from suite.runs.files import NOT_A_FILE, unreadable, write_atomically
from suite.runs.manifest import (
    ASIDE,
    NAMES,
    PARTS,
    ROWS,
    Manifest,
    Segment,
    line_of,
    manifest_files,
    own_files,
    read,
    round_of,
)

KEPT = 2
Tensors = Mapping[str, torch.Tensor]


class Loaded(NamedTuple):
    """What a checkpoint held."""

    state: dict[str, Any]
    segments: list[tuple[int, Tensors]]
    """Replay segments, oldest first, each with the row count at its end."""
    parts: list[str]
    """Names of the row files that belong to it."""
    damaged: list[str]
    """A line for whatever could not be used, and what became of it."""


class CheckpointStore:
    """The checkpoints of one run, in a folder of their own."""

    def __init__(self, folder: Path, run: str) -> None:
        """`run` is the name of the run, which no other has."""
        self.folder, self.run = folder, run
        self.last = Manifest(0, run)
        """The checkpoint that was saved or loaded last."""

    @property
    def parts(self) -> list[str]:
        """Row files, oldest first, relative to the folder's parent."""
        return list(self.last.parts)

    def saved_rows(self) -> int:
        """Rows of the replay that segments cover."""
        return self.last.segments[-1].stop if self.last.segments else 0

    # Saving ----------------------------------------------------------------------------------

    def save(
        self,
        round_: int,
        state: dict[str, Any],
        segment: Tensors,
        written: int,
        capacity: int,
        part: tuple[str, bytes] | None,
    ) -> None:
        """Writes the checkpoint of the end of a round, 1 or later.

        `segment` is what the replay has gained since the last one, `written` its row count at the
        end, `part` the name and bytes of the row file that goes with it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.manifests():
            # So that a first checkpoint that a kill cut short can be told from lost manifests.
            self.last.write(self.folder)
        files = {k: v for k, v in self.last.files.items() if k != self.last.state}
        segments, parts = list(self.last.segments), list(self.last.parts)
        if written > self.saved_rows():
            name = f"replay-{written:012d}.pt"
            files[name] = write_atomically(self.folder / name, serialised(dict(segment)))
            segments.append(Segment(name, written, rows_of(segment)))
        if part is not None:
            relative = f"../{part[0]}"
            files[relative] = write_atomically(self.folder / relative, part[1])
            parts.append(part[0])
        # Segments that the ring has overwritten are not needed again.
        while len(segments) > 1 and segments[0].stop <= written - capacity:
            del files[segments.pop(0).name]
        name = f"state-{round_:09d}.pt"
        data = serialised({"run": self.run, **state})
        files[name] = write_atomically(self.folder / name, data)
        self.last = replace(
            self.last,
            round=round_,
            state=name,
            files=files,
            segments=tuple(segments),
            parts=tuple(parts),
        )
        self.last.write(self.folder)
        self.delete_unneeded()

    def finish(self, rows: str) -> None:
        """Keeps the last weights alone, sealed together with the digest of the finished rows."""
        newest = next(map(read, self.manifests()), None)
        if newest is None or not newest.state:
            return
        files = {newest.state: newest.files[newest.state], ROWS: rows}
        if newest.files != files:
            replace(newest, files=files, segments=(), parts=()).write(self.folder)
        self.delete_but({newest.name, newest.state})
        for path in own_files(self.folder, ASIDE):
            path.unlink()

    def delete_unneeded(self) -> None:
        """Deletes all files of the run but those of the last two checkpoints."""
        kept = [path for path in self.manifests() if round_of(path)][:KEPT]
        read_ = [found for found in map(read, kept) if found]
        self.delete_but(name for found in read_ for name in (found.name, *found.files))

    def delete_but(self, needed: Iterable[str]) -> None:
        """Deletes the run's own files but the needed ones."""
        needed = set(needed)
        for found in self.foreign():
            needed |= {found.name, *found.files}
        for path in own_files(self.folder, NAMES):
            if path.name not in needed:
                path.unlink()

    # Looking ---------------------------------------------------------------------------------

    def foreign(self) -> list[Manifest]:
        """Manifests of other runs, which somebody has copied here."""
        found = map(read, manifest_files(self.folder))
        return [manifest for manifest in found if manifest and manifest.run != self.run]

    def manifests(self) -> list[Path]:
        """The run's own manifest files, damaged ones too, newest first."""
        foreign = {found.name for found in self.foreign()}
        return [path for path in manifest_files(self.folder) if path.name not in foreign]

    def readable(self) -> list[Manifest]:
        """The run's own manifests that are whole, newest first."""
        return [found for found in map(read, self.manifests()) if found]

    def newest(self) -> Manifest:
        """The newest of these; an empty one where there is none."""
        return next(iter(self.readable()), Manifest(0, self.run))

    def rounds(self) -> list[int]:
        """The rounds that there are checkpoints of, newest first."""
        return [round_of(path) for path in self.manifests()]

    def any(self) -> bool:
        """Whether there are files of checkpoints, whose ever they are."""
        return bool(own_files(self.folder, NAMES))

    def finished_rows(self) -> str:
        """The digest of the rows that the run was finished with; empty where it is not."""
        return self.newest().files.get(ROWS, "")

    # Loading ---------------------------------------------------------------------------------

    def load(self, at: int | None = None) -> Loaded | None:
        """The newest whole checkpoint, or the newest up to round `at`; None where there is none.

        Where none is whole, what is left of the newest one whose state is. Raises UserError where
        there are files that no checkpoint can be made of, or a file cannot be read at this moment.
        """
        foreign = [f"{self.folder / f.name} belongs to {f.run}" for f in self.foreign()]
        candidates = [p for p in self.manifests() if at is None or round_of(p) <= at]
        damaged: list[str] = []
        for path in candidates:
            try:
                loaded = self.load_from(path)
            except ValueError as error:
                damaged.append(str(error))
                continue
            if loaded is not None:
                lines = [f"{line}; the checkpoint before it is used" for line in damaged]
                lines += [f"{line} and is not used" for line in foreign]
                return loaded._replace(damaged=lines)
        for manifest in filter(None, map(read, candidates)) if damaged else ():
            mended = self.load_what_is_left(manifest)
            if mended is not None:
                return mended
        self.refuse(damaged, foreign)
        return None

    def load_from(self, path: Path) -> Loaded | None:
        """One checkpoint; None where it is that of a run that has none yet.

        Raises ValueError, naming the file, where one is missing or damaged.
        """
        manifest = read(path)
        if manifest is None:
            raise ValueError(f"{path} is damaged")
        if not manifest.state:
            return None
        for line in manifest.damaged(self.folder).values():
            raise ValueError(line)
        state = self.tensors(manifest.state)
        segments = [(found.stop, self.tensors(found.name)) for found in manifest.segments]
        self.go_on_from(manifest)
        return Loaded(state, segments, self.parts, [])

    def load_what_is_left(self, manifest: Manifest) -> Loaded | None:
        """A checkpoint whose state is whole, without what is damaged; None where that is too much.

        Copies of transitions nearby stand in for lost ones, so that the others are drawn about as
        often as before. What they take the place of is set aside, not written over.
        """
        bad = manifest.damaged(self.folder)
        whole = [found for found in manifest.segments if found.name not in bad]
        if not manifest.state or manifest.state in bad or (manifest.segments and not whole):
            return None
        try:
            state = self.tensors(manifest.state)
            read_ = {found.name: self.tensors(found.name) for found in whole}
        except ValueError:
            return None
        files, lost = dict(manifest.files), []
        for name, line in bad.items():
            del files[name]
            set_aside_once(self.folder / name)
            if name.startswith("../"):
                lost.append(f"{line}: its rows are lost")
        for found in manifest.segments:
            if found.name in bad:
                nearest = min(whole, key=lambda other: abs(other.stop - found.stop))
                read_[found.name] = repeated(read_[nearest.name], found.rows)
                data = serialised(read_[found.name])
                files[found.name] = write_atomically(self.folder / found.name, data)
                lost.append(
                    f"{bad[found.name]}: {found.rows:,} transitions of each task are lost, and "
                    "copies of others take their places"
                )
        parts = tuple(part for part in manifest.parts if f"../{part}" not in bad)
        every = (*manifest.lost, *lost)
        self.go_on_from(replace(manifest, files=files, parts=parts, lost=every))
        segments = [(found.stop, read_[found.name]) for found in manifest.segments]
        lines = [f"{x}; the run goes on, and not as it would have undisturbed" for x in lost]
        return Loaded(state, segments, self.parts, lines)

    def go_on_from(self, manifest: Manifest) -> None:
        """Makes a checkpoint the newest."""
        self.last = manifest
        # A newer checkpoint that could not be read would come back as damaged for ever.
        for newer in self.manifests():
            if newer.name == manifest.name:
                break
            newer.rename(newer.with_suffix(".damaged"))

    def refuse(self, damaged: list[str], foreign: list[str]) -> None:
        """Raises UserError where files are there that no checkpoint can be made of."""
        rows = self.folder.parent / "rows"
        left = [*own_files(self.folder, NAMES), *own_files(rows, PARTS)]
        if foreign:
            reason = f"{'; '.join(foreign)}, not to this run"
        elif damaged:
            reason = f"no checkpoint can be read: {'; '.join(damaged)}"
        elif left and not self.manifests():
            reason = f"{left[0]} is there, and no manifest that says what belongs to it"
        else:
            return
        raise UserError(
            f"{reason}; put the files back from a copy, or move {self.folder.parent} elsewhere and "
            "give the same command again, which then starts from nothing"
        )

    def tensors(self, name: str) -> Any:
        """What a file of tensors holds. Raises ValueError where that is something else, and Failure
        where it cannot be read at this moment.
        """
        path = self.folder / name
        try:
            # Mapped, not read: a replay is not in memory twice while a run takes it over.
            return torch.load(path, "cpu", weights_only=True, mmap=True)
        except NOT_A_FILE as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        except (OSError, RuntimeError, MemoryError) as error:
            # torch raises RuntimeError where the system does not map the file.
            raise unreadable(path, error) from None
        except Exception:
            # Its bytes are those that were written, but they are not tensors and plain data.
            raise ValueError(f"{path} cannot be read") from None

    def weights(self) -> tuple[Path, dict[str, Any]]:
        """The file and the contents of the newest state that is whole.

        Raises UserError where there is none, naming what is in its place.
        """
        lines = [f"{self.folder / f.name} belongs to {f.run}" for f in self.foreign()]
        for path in self.manifests():
            manifest = read(path)
            if manifest is None:
                lines.append(f"{path} is damaged")
            elif manifest.state:
                state = self.folder / manifest.state
                line = line_of(state, manifest.files[manifest.state])
                try:
                    if not line:
                        return state, self.tensors(manifest.state)
                except ValueError as error:
                    line = str(error)
                lines.append(line)
        because = f" that can be used ({'; '.join(lines)})" if lines else ""
        raise UserError(
            f"{self.folder} holds no checkpoint{because}; the weights are needed: put them back "
            "from a copy, or train the run"
        )


def serialised(value: Any) -> bytes:
    """The bytes of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rows_of(segment: Tensors) -> int:
    """The rows of a segment, of each task."""
    return next(iter(segment.values())).shape[1]


def set_aside_once(path: Path) -> None:
    """Renames a damaged file, if it is there. One that was set aside before is kept: what is there
    now has stood in for it.
    """
    aside = path.with_name(f"{path.name}.damaged")
    if path.is_file() and not aside.exists():
        path.rename(aside)


def repeated(segment: Tensors, count: int) -> Tensors:
    """So many rows of a segment, over and over."""
    index = torch.arange(count) % rows_of(segment)
    return {name: values[:, index] for name, values in segment.items()}
