from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite.runs.progress import Progress, duration


def test_the_speed_of_a_resumed_run_is_that_of_its_session() -> None:
    progress = Progress("run", 10_000)
    progress.begin(4_000)
    progress.began -= 10
    assert progress.timing(4_100)["steps_per_second"] == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (187.2, "3:07"), (3729, "1:02:09")])
def test_durations_are_read_at_a_glance(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_run_that_goes_on_shows_its_last_success_until_the_next_evaluation(
    tmp_path: Path,
) -> None:
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    first = Progress("", 200, files)
    first.begin(0)
    first.step(50)
    first.evaluated(50, [0.75, 0.5])

    def shown() -> list[object]:
        return [json.loads(file.read_text())["success"] for file in files]

    resumed = Progress("", 200, files)
    resumed.begin(50)
    assert shown() == [0.75, 0.5]
    resumed.evaluated(100, [1.0, 0.25])
    assert shown() == [1.0, 0.25]
    Progress("", 200, files).begin(0)  # from nothing
    assert shown() == [None, None]
