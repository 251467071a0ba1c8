"""Checkpoints: whole or not there, checked when read, and never a way to run code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.messages import UserError
from suite.runs.checkpoint import KEPT, CheckpointStore, Loaded

CAPACITY = 8


def save(store: CheckpointStore, round_: int, state: dict[str, Any] | None = None) -> None:
    """The checkpoint of a round of 3 transitions; every number in it names the round."""
    state = state or {"round": round_, "weights": torch.full((4,), float(round_))}
    segment = {"rows": torch.full((1, 3, 2), float(round_))}
    (store.folder.parent / "rows").mkdir(parents=True, exist_ok=True)
    part = (f"rows/{round_:09d}.parquet", f"rows of round {round_}".encode())
    store.save(round_, state, segment, round_ * 3, CAPACITY, part)


def of_run(folder: Path, run: str, rounds: int) -> CheckpointStore:
    store = CheckpointStore(folder / "checkpoints", run)
    for round_ in range(1, rounds + 1):
        save(store, round_)
    return store


def store_with(folder: Path, rounds: int) -> Path:
    return of_run(folder, "mtsac-s0", rounds).folder


def load(folder: Path) -> Loaded:
    loaded = CheckpointStore(folder, "mtsac-s0").load()
    assert loaded is not None
    return loaded


def newest(folder: Path, pattern: str) -> Path:
    return max((folder / "..").resolve().glob(pattern))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, flip_a_bit, empty, remove]
FILES = {
    "state": "checkpoints/state-*.pt",
    "segment": "checkpoints/replay-*.pt",
    "row file": "rows/*.parquet",
    "manifest": "checkpoints/manifest-*.json",
}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    loaded = load(store_with(tmp_path, 2))
    assert loaded.state["round"] == 2
    assert torch.equal(loaded.state["weights"], torch.full((4,), 2.0))
    assert [stop for stop, _ in loaded.segments] == [3, 6]
    assert loaded.segments[1][1]["rows"].unique().tolist() == [2.0]
    assert loaded.parts == ["rows/000000001.parquet", "rows/000000002.parquet"]
    assert loaded.damaged == []


def test_where_nothing_was_saved_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "checkpoints", "mtsac-s0").load() is None


def test_the_files_of_the_last_two_checkpoints_are_kept_and_no_others(tmp_path: Path) -> None:
    folder = store_with(tmp_path, 9)
    names = sorted(path.name for path in folder.iterdir())
    # Nine rounds of 3 rows in a ring of 8: the last 3 segments, and one for the checkpoint before.
    assert names == [
        *("manifest-000000008.json", "manifest-000000009.json"),
        *(f"replay-{stop:012d}.pt" for stop in (18, 21, 24, 27)),
        *("state-000000008.pt", "state-000000009.pt"),
    ]
    assert KEPT == 2
    # Rows are results: all of them are kept.
    assert len(list((tmp_path / "rows").iterdir())) == 9


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", FILES)
def test_damage_in_the_newest_is_named_and_the_previous_one_used(
    tmp_path: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    folder = store_with(tmp_path, 3)
    victim = newest(folder, FILES[kind])
    damage(victim)
    loaded = load(folder)
    assert loaded.state["round"] == 2
    assert [stop for stop, _ in loaded.segments] == [3, 6]
    assert loaded.parts[-1] == "rows/000000002.parquet"
    if (kind, damage) == ("manifest", remove):
        return  # without its manifest a checkpoint does not exist
    (line,) = loaded.damaged
    assert victim.name in line
    assert "damaged" in line or "No such file" in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", FILES)
def test_after_falling_back_the_run_goes_on_saving_and_complains_no_more(
    tmp_path: Path, kind: str
) -> None:
    folder = store_with(tmp_path, 3)
    flip_a_bit(newest(folder, FILES[kind]))
    store = CheckpointStore(folder, "mtsac-s0")
    assert store.load() is not None
    save(store, 3)
    loaded = load(folder)
    assert (loaded.state["round"], loaded.damaged) == (3, [])
    save(store, 4)
    assert not list(folder.glob("*.damaged"))


def test_killed_after_falling_back_it_falls_back_again_in_silence(tmp_path: Path) -> None:
    folder = store_with(tmp_path, 3)
    flip_a_bit(newest(folder, FILES["state"]))
    assert len(load(folder).damaged) == 1
    again = load(folder)
    assert (again.state["round"], again.damaged) == (2, [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_if_none_is_whole_both_are_named_with_the_way_out(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = store_with(tmp_path, 3)
    for path in folder.glob("state-*.pt"):
        damage(path)
    with pytest.raises(UserError) as error:
        CheckpointStore(folder, "mtsac-s0").load()
    message = str(error.value)
    assert "state-000000003.pt" in message
    assert "state-000000002.pt" in message
    # The way out deletes nothing.
    assert "--force" not in message and f"move {tmp_path} elsewhere" in message
    assert "\n" not in message
    # Refusing must not destroy what an expert could still rescue.
    assert len(list(folder.glob("manifest-*"))) == 2


# Files of others, and files that are gone --------------------------------------------------------


def test_the_checkpoints_of_another_run_are_refused_and_left_alone(tmp_path: Path) -> None:
    of_run(tmp_path, "mtsac-s5", 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as error:
        CheckpointStore(tmp_path / "checkpoints", "mtsac-s0").load()
    assert "manifest-000000003.json belongs to mtsac-s5" in str(error.value)
    assert "--force" not in str(error.value)
    with pytest.raises(UserError, match="belongs to mtsac-s5"):
        CheckpointStore(tmp_path / "checkpoints", "mtsac-s0").weights()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_beside_its_own_checkpoints_those_of_another_run_are_named_and_kept(
    tmp_path: Path,
) -> None:
    theirs = of_run(tmp_path / "theirs", "mtsac-s5", 9).folder
    store = of_run(tmp_path, "mtsac-s0", 2)
    copied = [shutil.copy(path, store.folder) for path in theirs.iterdir()]
    found = CheckpointStore(store.folder, "mtsac-s0")
    loaded = found.load()
    assert loaded is not None and loaded.state["round"] == 2
    assert [line.partition(" belongs")[0] for line in loaded.damaged] == [
        str(store.folder / f"manifest-00000000{n}.json") for n in (9, 8)
    ]
    for round_ in (3, 4):
        save(found, round_)
    assert all(Path(path).exists() for path in copied)


def test_a_state_carries_the_name_of_its_run(tmp_path: Path) -> None:
    _, state = of_run(tmp_path, "mtsac-s5", 1).weights()
    assert state["run"] == "mtsac-s5"


def test_a_manifest_under_another_name_is_not_taken_for_another_round(tmp_path: Path) -> None:
    folder = store_with(tmp_path, 2)
    shutil.copy(folder / "manifest-000000001.json", folder / "manifest-000000007.json")
    loaded = load(folder)
    assert loaded.state["round"] == 2
    assert len(loaded.damaged) == 1


@pytest.mark.parametrize("left", ["checkpoints", "rows"])
def test_without_a_manifest_a_run_does_not_start_from_zero_in_silence(
    left: str, tmp_path: Path
) -> None:
    folder = store_with(tmp_path, 1)
    for path in folder.glob("manifest-*" if left == "checkpoints" else "*"):
        path.unlink()
    with pytest.raises(UserError, match="and no manifest that says what belongs to it") as error:
        CheckpointStore(folder, "mtsac-s0").load()
    assert f"move {tmp_path} elsewhere" in str(error.value)


@pytest.mark.parametrize("write", range(2, 6))
def test_killed_in_its_first_save_a_run_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    # Files of a checkpoint that never was are not manifests lost.
    store = CheckpointStore(tmp_path / "checkpoints", "mtsac-s0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing_at(write, "replace", Killed())[0])
        with pytest.raises(Killed):
            save(store, 1)
    assert CheckpointStore(store.folder, "mtsac-s0").load() is None
    save(CheckpointStore(store.folder, "mtsac-s0"), 1)
    assert load(store.folder).state["round"] == 1


def test_what_both_checkpoints_need_and_is_damaged_is_named_and_done_without(
    tmp_path: Path,
) -> None:
    folder = store_with(tmp_path, 3)
    flip_a_bit(folder / "replay-000000000003.pt")
    flip_a_bit(tmp_path / "rows" / "000000001.parquet")
    loaded = load(folder)
    assert loaded.state["round"] == 3
    # Copies of the nearest rows that are whole, in the places of those that are not.
    rows = [segment["rows"].unique().tolist() for _, segment in loaded.segments]
    assert [stop for stop, _ in loaded.segments] == [3, 6, 9]
    assert rows == [[2.0], [2.0], [3.0]]
    assert loaded.parts == [f"rows/00000000{n}.parquet" for n in (2, 3)]
    assert len(loaded.damaged) == 2
    assert "000000001.parquet is damaged: its rows are lost" in loaded.damaged[0]
    assert "3 transitions of each task are lost" in loaded.damaged[1]


def test_what_a_run_does_without_is_kept_until_the_run_is_done(tmp_path: Path) -> None:
    folder = store_with(tmp_path, 3)
    victims = [folder / "replay-000000000003.pt", tmp_path / "rows" / "000000001.parquet"]
    for path in victims:
        flip_a_bit(path)
    aside = {path.with_name(f"{path.name}.damaged"): path.read_bytes() for path in victims}
    load(folder)
    load(folder)  # killed before it has saved: what stood in is no second damage to keep
    store = CheckpointStore(folder, "mtsac-s0")
    assert store.load() is not None
    for round_ in (4, 5, 6, 7, 8):
        save(store, round_)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.damaged")} == aside
    store.finish("digest of the rows")
    assert not list(folder.glob("*.damaged"))


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("kind", FILES)
def test_what_cannot_be_read_now_is_not_damaged_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    folder = store_with(tmp_path, 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    victims = [newest(folder, FILES[kind])]
    if kind != "state":  # an older one is needed, too
        victims.append(min(tmp_path.glob(FILES[kind])))
    for victim in victims:
        with monkeypatch.context() as patch:
            refuse_to_open(victim, OSError(number, os.strerror(number)), patch)
            with pytest.raises(UserError) as error:
                CheckpointStore(folder, "mtsac-s0").load()
        line = str(error.value)
        assert f"{victim.name} cannot be read: {os.strerror(number)}; " in line
        assert "again" in line and "\n" not in line
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before
    assert load(folder).damaged == []


def refuse_to_open(victim: Path, error: OSError, patch: pytest.MonkeyPatch) -> None:
    """As a server does that does not answer for one file."""
    real = io.open

    def fails(path: Any, *arguments: Any, **named: Any) -> Any:
        if Path(path).name == victim.name:
            raise error
        return real(path, *arguments, **named)

    patch.setattr(io, "open", fails)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), RuntimeError("unable to mmap")])
def test_tensors_that_cannot_be_mapped_now_are_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder = store_with(tmp_path, 3)

    def fails(*_: Any, **__: Any) -> None:
        raise error

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises(UserError, match=r"cannot be read: (I/O error|unable to mmap); "):
            CheckpointStore(folder, "mtsac-s0").load()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_that_cannot_be_read_when_another_is_saved_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store_with(tmp_path, 2)
    store = CheckpointStore(folder, "mtsac-s0")
    assert store.load() is not None
    victim = folder / "manifest-000000002.json"
    with monkeypatch.context() as patch:
        refuse_to_open(victim, OSError(errno.EIO, os.strerror(errno.EIO)), patch)
        with pytest.raises(UserError, match=r"manifest-000000002\.json cannot be read"):
            save(store, 3)
    assert (folder / "state-000000002.pt").exists()


def test_a_run_that_has_lost_something_says_so_for_good(tmp_path: Path) -> None:
    folder = store_with(tmp_path, 3)
    flip_a_bit(folder / "replay-000000000003.pt")
    load(folder)  # and killed before the next checkpoint
    store = CheckpointStore(folder, "mtsac-s0")
    assert store.load() is not None
    for round_ in (4, 5, 6, 7, 8):
        save(store, round_)
    loaded = load(folder)
    assert (loaded.state["round"], loaded.damaged) == (8, [])
    (line,) = CheckpointStore(folder, "mtsac-s0").newest().lost
    assert "3 transitions of each task are lost" in line


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def bombed(tmp_path: Path) -> Path:
    """Two good checkpoints and a newest one whose checksums are right and whose state is code."""
    store = CheckpointStore(tmp_path / "checkpoints", "mtsac-s0")
    save(store, 1)
    save(store, 2)
    save(store, 3, {"round": 3, "weights": Bomb(tmp_path / "exploded")})
    return store.folder


def test_pickled_code_does_not_run(tmp_path: Path) -> None:
    folder = bombed(tmp_path)
    with contextlib.suppress(Exception):  # refusing it is right as well
        CheckpointStore(folder, "mtsac-s0").load()
    assert not (tmp_path / "exploded").exists()
    # The bomb is live: without weights_only it goes off.
    torch.load(newest(folder, FILES["state"]), weights_only=False)
    assert (tmp_path / "exploded").exists()


def test_a_state_with_pickled_code_is_named_and_the_previous_checkpoint_used(
    tmp_path: Path,
) -> None:
    loaded = load(bombed(tmp_path))
    assert loaded.state["round"] == 2
    (line,) = loaded.damaged
    assert "state-000000003.pt" in line


# A full disk, and a kill, at every system call of a save ---------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def failing_at(call: int, name: str, error: BaseException) -> tuple[Callable[..., Any], list[int]]:
    """`os.<name>` that raises at its n-th call, and a list that counts the calls."""
    real, calls = getattr(os, name), [0]

    def fails(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise error
        return real(*arguments, **named)

    return fails, calls


# A save writes four files, each with two fsyncs (file and folder) and one rename.
CALLS = [("fsync", n) for n in range(1, 9)] + [("replace", n) for n in range(1, 5)]


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_full_disk_leaves_the_earlier_checkpoints_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    folder = store_with(tmp_path, 2)
    store = CheckpointStore(folder, "mtsac-s0")
    store.load()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        fails, calls = failing_at(call, name, full)
        patch.setattr(os, name, fails)
        with pytest.raises(
            UserError, match=r"^cannot write .*No space left.*; make room and .* resume$"
        ) as error:
            save(store, 3)
    assert calls[0] == call
    assert "\n" not in str(error.value)
    loaded = load(folder)
    # The very last fsync is of the folder, when the new manifest has its name already.
    assert loaded.state["round"] == (3 if (name, call) == ("fsync", 8) else 2)
    assert loaded.damaged == []
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    folder = store_with(tmp_path, 2)
    store = CheckpointStore(folder, "mtsac-s0")
    store.load()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing_at(call, name, Killed())[0])
        with pytest.raises(Killed):
            save(store, 3)
    resumed = CheckpointStore(folder, "mtsac-s0")
    loaded = resumed.load()
    assert loaded is not None
    assert loaded.state["round"] in (2, 3)
    assert loaded.damaged == []
    for round_ in range(loaded.state["round"] + 1, 5):
        save(resumed, round_)
    after = load(folder)
    assert after.state["round"] == 4
    # What the killed save left half written is gone from the folder.
    assert not list(folder.glob(".*.tmp"))
