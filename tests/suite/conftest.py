"""What several tests of the suite share: finished runs, and goals that are made only once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_sweeps import begin, ended, fields
from smoke_runs import Run, call, smoke_arguments


@pytest.fixture(scope="session", autouse=True)
def goal_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # The user's own cache is neither read nor written: a stale file there could hide a bug.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A finished smoke run of an algorithm; made once a session, so tests must not change it."""
    runs: dict[str, Run] = {}

    def get(algorithm: str) -> Run:
        if algorithm not in runs:
            results = tmp_path_factory.mktemp(algorithm)
            runs[algorithm] = call(smoke_arguments(algorithm, results), results)
        return runs[algorithm]

    return get


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a finished sweep over two seeds; tests must not change it."""
    results = tmp_path_factory.mktemp("undisturbed")
    status, output = ended(begin(fields(results, seed="0,1")))
    assert status == 0, output
    assert "2 of 2 runs done" in output
    return results
