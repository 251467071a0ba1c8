"""What of the rows a figure is drawn from: those of an algorithm or of some metrics, final scores.

Rows are chosen by category: frames have millions of them.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analysis.figures.style import Unsupported
from analysis.messages import RowsError
from analysis.scores import Scores, success_matrix


def of_algorithm(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of an algorithm, also where it was named as module:Class."""
    kinds = [str(kind) for kind in frame["algorithm"].unique()]
    own = [kind for kind in kinds if kind.rpartition(":")[2].lower() == name]
    return frame[frame["algorithm"].isin(own)]


def of_metrics(frame: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The rows whose metric matches a regular expression from its beginning."""
    metrics = [str(metric) for metric in frame["metric"].unique()]
    return frame[frame["metric"].isin([m for m in metrics if re.match(pattern, m)])]


def final_scores(frame: pd.DataFrame, metric: str = "success") -> dict[str, Scores]:
    """By label that has rows of a metric, its values at the last evaluation of each run.

    Raises Unsupported where no row has it, and where a run lacks one of its configuration's tasks.
    """
    try:
        found = success_matrix(frame, metric)
    except RowsError as error:
        raise Unsupported(f"needs rows of {metric}: {error}") from None
    for label, scores in found.items():
        if np.isnan(scores.values).any():
            raise Unsupported(
                f"needs {metric} of every run and task at the last evaluation, and of {label} some "
                "is NaN"
            )
    return found
