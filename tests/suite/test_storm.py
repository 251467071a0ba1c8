"""A moment of `make storm`, which goes on for ten minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import storm
from storm import Kind, Storm, differences


def test_a_run_that_is_killed_ends_with_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storm, "MOST_KILLS", 1)
    made, kind = Storm(tmp_path, seed=2), Kind("mtsac", batched=False)
    made.one(kind)
    assert made.count["same"] == made.count["runs"] == 1, made
    assert sum(n for what, n in made.count.items() if "kill" in what) > 0
    # And what is not the same would be seen.
    results = made.undisturbed[kind].results
    other = shutil.copytree(results, tmp_path / "other")
    assert differences(other, results) == []
    (run,) = other.iterdir()
    (state,) = (run / "checkpoints").glob("state-*.pt")
    for path in (run / "rows.parquet", run / "result.json"):
        path.write_bytes(path.read_bytes() + b" ")
    (run / ".rows.parquet.tmp").touch()
    state.rename(state.with_name("state-000000001.pt"))
    assert len(differences(other, results)) == 4
