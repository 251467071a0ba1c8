"""Files are whole or not there, and nobody's link is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.messages import Failure
from suite.runs.files import opened_to_append, set_aside, write_atomically


@pytest.mark.parametrize("name", ["file", ".file.tmp"])
def test_a_link_that_somebody_has_placed_is_replaced_and_not_followed(
    name: str, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / name).symlink_to(victim)
    write_atomically(tmp_path / "file", b"ours")
    assert victim.read_text() == "theirs"
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert not (tmp_path / "file").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "file"}


def test_nothing_is_appended_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        opened_to_append(tmp_path / "log")
    assert victim.read_text() == "theirs"


def test_a_folder_in_a_files_place_gives_one_line_and_stays(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").mkdir()
    with pytest.raises(Failure, match=r"^cannot write .*file: Is a directory"):
        write_atomically(tmp_path / "file", b"ours")
    assert (tmp_path / ".file.tmp").is_dir()


def test_what_is_set_aside_twice_is_kept_twice(tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / "file").write_text(text)
        set_aside(tmp_path / "file")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"file.damaged": "one", "file.damaged-2": "two"}
