from __future__ import annotations

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
