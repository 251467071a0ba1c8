"""Entries of the cache are tied to what they are of, and nobody else's are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite.envs.cache import OLD_SECONDS, cache_file, load, store

KEY, OTHER = ["1.0", "reach-v3"], ["1.0", "push-v3"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store("kind", KEY, b"content")


def found(key: list[str] = KEY) -> bytes | None:
    return load("kind", key, bytes)


def test_what_is_stored_is_loaded() -> None:
    assert found() == b"content"
    assert found(OTHER) is None


def test_an_entry_of_another_task_or_version_is_not_read_though_it_is_whole() -> None:
    cache_file("kind", OTHER).write_bytes(cache_file("kind", KEY).read_bytes())
    cache_file("kind", OTHER).chmod(0o600)
    assert found(OTHER) is None


def test_an_entry_that_others_can_write_is_not_read() -> None:
    cache_file("kind", KEY).chmod(0o622)
    assert found() is None


def test_an_entry_of_another_user_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert found() is None


def test_a_link_a_pipe_and_a_folder_are_no_entries(tmp_path: Path) -> None:
    path = cache_file("kind", KEY)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert found() is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert found() is None
    path.unlink()
    path.mkdir()
    assert found() is None


def test_an_entry_that_cannot_be_decoded_is_made_again() -> None:
    assert load("kind", KEY, lambda content: int(content)) is None


def test_what_a_kill_left_half_written_goes(tmp_path: Path) -> None:
    folder = cache_file("kind", KEY).parent
    (folder / "old.part").touch()
    (folder / "new.part").touch()
    long_ago = os.stat(folder).st_mtime - 2 * OLD_SECONDS
    os.utime(folder / "old.part", (long_ago, long_ago))
    store("kind", OTHER, b"content")
    assert [path.name for path in folder.glob("*.part")] == ["new.part"]


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    store("kind", KEY, b"content")
    assert found() is None
