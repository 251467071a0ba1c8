"""Rows of an algorithm or of some metrics, chosen by category: frames have millions of rows."""

from __future__ import annotations

import re

import pandas as pd


def of_algorithm(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of an algorithm, also where it was named as module:Class."""
    kinds = [str(kind) for kind in frame["algorithm"].unique()]
    own = [kind for kind in kinds if kind.rpartition(":")[2].lower() == name]
    return frame[frame["algorithm"].isin(own)]


def of_metrics(frame: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The rows whose metric matches a regular expression from its beginning."""
    metrics = [str(metric) for metric in frame["metric"].unique()]
    return frame[frame["metric"].isin([m for m in metrics if re.match(pattern, m)])]
