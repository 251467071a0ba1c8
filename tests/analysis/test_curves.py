from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.curves import draw, success_rows


def rows(path: Path, metric: str = "success/mean") -> Path:
    frame = pd.DataFrame(
        {
            "run": "mtsac-x",
            "algorithm": "mtsac",
            "seed": 0,
            "metric": [metric, metric, "return"],
            "env_step": [100, 200, 200],
            "value": [0.25, 0.75, 3.0],
        }
    )
    frame.to_parquet(path)
    return path


def test_curves_are_the_evaluations_of_the_rows(tmp_path: Path) -> None:
    found = success_rows([rows(tmp_path / "a.parquet"), rows(tmp_path / "b.parquet")])
    assert found["value"].tolist() == [0.25, 0.75, 0.25, 0.75]
    draw(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("kind", ["text", "no evaluation", "missing"])
def test_a_file_without_evaluations_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    if kind == "text":
        path.write_text("not parquet")
    elif kind == "no evaluation":
        rows(path, "train/return")
    with pytest.raises(ValueError, match=r"rows\.parquet"):
        success_rows([path])
