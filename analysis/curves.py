"""Learning curves: `python -m analysis.curves OUT.png ROWS.parquet [ROWS.parquet ...]`.

Mean success of each algorithm against environment steps, one line a run, drawn from the rows alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd
import seaborn as sns

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = ["run", "algorithm", "seed", "env_step", "value"]


def success_rows(paths: Sequence[Path]) -> pd.DataFrame:
    """Mean success over tasks at every evaluation of the runs, read from their rows.

    Raises ValueError, naming the file, where one does not hold such rows.
    """
    frames = []
    for path in paths:
        try:
            rows = pd.read_parquet(path)
            frames.append(rows.loc[rows["metric"] == "success/mean", COLUMNS])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not hold result rows: {error}") from None
        if frames[-1].empty:
            raise ValueError(f"{path} holds no evaluation")
    return pd.concat(frames, ignore_index=True).astype({"algorithm": str, "run": str})


def draw(rows: pd.DataFrame, out: Path) -> None:
    """Draws the curves of `success_rows` to a PNG or PDF file."""
    sns.set_theme(style="whitegrid", context="paper", palette="colorblind")
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    sns.lineplot(
        rows, x="env_step", y="value", hue="algorithm", units="run", estimator=None, ax=axes
    )
    axes.set(xlabel="environment steps, all tasks", ylabel="mean success", ylim=(0, 1.02))
    axes.legend(title=None, loc="lower right")
    figure.savefig(out, dpi=160)
    plt.close(figure)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("usage: python -m analysis.curves OUT.png ROWS.parquet [...]")
    try:
        draw(success_rows([Path(p) for p in sys.argv[2:]]), Path(sys.argv[1]))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
