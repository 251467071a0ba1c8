"""A sweep on a real Ray cluster of two nodes, one of which dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_sweeps import begin, ended, fields, rows, sessions, wait_for

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
