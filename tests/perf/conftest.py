"""Benchmarks run in a process like a training run's."""

import pytest

from suite.process import prepare

prepare()


@pytest.fixture(autouse=True, scope="session")
def compiler() -> None:
    """Compiled as in training, on the CPU."""
    from suite.training.compiling import settle

    settle("cpu")
