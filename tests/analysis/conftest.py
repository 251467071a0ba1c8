"""The simulated study that several tests of figures read; they must not change it."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.rows import load
from tests.analysis.simulated import study


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return load([study(tmp_path_factory.mktemp("study"), seeds=2)])


@pytest.fixture(scope="session")
def mt10(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["task_set"] == "MT10"]
