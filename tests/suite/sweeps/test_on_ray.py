"""A sweep on a real Ray cluster of two nodes, one of which dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_sweeps import begin, ended, fields, planned, rows, sessions, wait_for

from suite.runs.state import state

ray = pytest.importorskip("ray", reason="ray is not installed (extra ray)")
import psutil  # noqa: E402 - Ray brings it along
from ray.cluster_utils import Cluster  # noqa: E402


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's nodes take the signal for themselves.
    before = signal.getsignal(signal.SIGTERM)
    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()
    signal.signal(signal.SIGTERM, before)


def test_what_a_task_raises_is_a_failure_and_a_lost_worker_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.sweeps.on_ray import RayLauncher

    raised = {
        "wrong": ray.exceptions.RayTaskError("run", "in run\n", FileNotFoundError("no folder")),
        "crash": ray.exceptions.WorkerCrashedError(),
    }
    monkeypatch.setattr(ray, "wait", lambda references, **_: (references, []))

    def get(reference: str) -> int:
        error = raised[reference]
        cause = getattr(error, "as_instanceof_cause", None)
        raise cause() if cause else error

    monkeypatch.setattr(ray, "get", get)
    launcher = RayLauncher.__new__(RayLauncher)
    runs = planned(fields(tmp_path, seed="0,1")).runs
    launcher.tasks = dict(zip(raised, runs, strict=True))
    statuses = [status for _, status in launcher.ended()]
    assert statuses[0] == 1, "not negative, hence not tried again"
    assert statuses[1] < 0
    assert [state(run).reason for run in runs] == ["exit status 1", "its worker was lost"]


def test_a_run_whose_node_dies_resumes_on_another(
    cluster: Any, undisturbed: Path, tmp_path: Path
) -> None:
    doomed = cluster.add_node(num_cpus=1, num_gpus=0)
    given = fields(tmp_path, seed="0,1")
    ray_options = {"launcher": "ray", "cores": "1"}
    sweep = begin({**given, **ray_options}, RAY_ADDRESS=cluster.address)
    wait_for(given)
    # A node takes seconds to go; a run that went on meanwhile would be done before it dies.
    (raylet,) = doomed.all_processes["raylet"]
    its_run = psutil.Process(raylet.process.pid).children(recursive=True)
    for process in its_run:
        process.suspend()
    cluster.remove_node(doomed, allow_graceful=False)
    for process in its_run:
        process.kill()
    status, output = ended(sweep)
    assert status == 0, output
    assert "2 of 2 runs done" in output
    assert sorted(sessions(tmp_path).values()) == [1, 2]
    assert rows(tmp_path) == rows(undisturbed)
