"""Whether a run that was trained again agrees with those that were released.

A further seed of the same configuration lies, 95 times in a hundred, within the interval that
Student's t predicts from the released seeds: mean ± t · s · √(1 + 1/n), n seeds, s their standard
deviation (Geisser 1993, section 2.2). The same seed, trained elsewhere, rounds differently and then
is no nearer than another one; where it does not, the run is the released one, which says nothing of
how seeds vary: the released run of its seed is left out of the sample.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.frame import runs
from analysis.labels import NOT_IDENTITY, flat
from analysis.messages import AnalysisError
from analysis.parquet_rows import configuration
from analysis.scores import success_matrix
from analysis.statistics import LEVEL
from analysis.table_formats import Table

FEWEST = 2
"""Released seeds below which nothing is known of how seeds vary."""


def reproduction(trained: pd.DataFrame, released: pd.DataFrame) -> Table:
    """A line for each run that was trained again, with the range that the released ones predict.

    Raises AnalysisError where no run's configuration has been released in several seeds.
    """
    known: dict[str, list[Scored]] = defaultdict(list)
    for run in scored(released):
        known[run.identity].append(run)
    rows, notes = [], [f"Of runs that agree in truth, one in {1 / (1 - LEVEL):.0f} differs."]
    for run in scored(trained):
        others = [other for other in known.get(run.identity, []) if other.seed != run.seed]
        same = [other for other in known.get(run.identity, []) if other.seed == run.seed]
        if len(others) < FEWEST:
            few = f"{run.name}: {len(others)} other seeds of its configuration are released"
            notes.append(f"{few}, and {FEWEST} or more are needed.")
            continue
        there = [other.score for other in others]
        low, high = predicted(there)
        verdict = "agrees" if low <= run.score <= high else "DIFFERS"
        if any(other.by_task == run.by_task for other in same):
            verdict = "identical"
            notes.append(
                f"{run.name} has the scores of the released run of its seed on every task: it is a "
                "copy, or was made where nothing rounds otherwise. It does not show how seeds vary."
            )
        rows.append((run.name, run.score, len(there), float(np.mean(there)), low, high, verdict))
    if not rows:
        raise AnalysisError(
            f"reproduced: {few}, and {FEWEST} or more are needed; compare the settings, or name "
            "other folders with --released"
        )
    return Table(
        "reproduced",
        f"Final mean success of runs trained again, and the {LEVEL:.0%} prediction interval for "
        "one more seed from the released ones.",
        ("run", "success", "other seeds released", "their mean", "from", "to", "verdict"),
        tuple(rows),
        tuple(notes),
    )


def predicted(scores: list[float], level: float = LEVEL) -> tuple[float, float]:
    """The range in which one more score lies at this level."""
    n, middle = len(scores), float(np.mean(scores))
    t = float(stats.t.ppf((1 + level) / 2, n - 1))
    width = t * float(np.std(scores, ddof=1)) * math.sqrt(1 + 1 / n)
    return max(0.0, middle - width), min(1.0, middle + width)


class Scored(NamedTuple):
    """A run and its final success."""

    name: str
    identity: str
    """Its configuration without seed and device."""
    seed: int
    score: float
    by_task: list[float]


def scored(frame: pd.DataFrame) -> list[Scored]:
    """Each run of the frame."""
    source = runs(frame)["source"].astype(str)
    return [
        Scored(run, identity(source[run]), seed, float(np.mean(values)), values.tolist())
        for scores in success_matrix(frame).values()
        for run, seed, values in zip(scores.runs, scores.seeds, scores.values, strict=True)
    ]


def identity(source: str) -> str:
    """The configuration that a run's rows carry, as text that is equal for all of its seeds.

    Raises AnalysisError for rows that carry none.
    """
    config = configuration(source)
    if not config:
        raise AnalysisError(f"reproduced: {source} holds no configuration to tell its seeds by")
    fields = {k: v for k, v in flat(config).items() if k not in NOT_IDENTITY}
    steps = (config.get("training") or {}).get("steps")
    return json.dumps({**fields, "steps": steps, "algorithm": config.get("algorithm")},
                      sort_keys=True)  # fmt: skip
