"""Plasticity at the end of training, with intervals, from the rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pandas as pd

from analysis.evaluations import at_last_shared
from analysis.statistics import estimate, iqm
from analysis.table_formats import Cell, Table, without_empty

PLASTICITY = {
    "dormant_0.1": "dormant (τ 0.1)",
    "dormant_0.025": "dormant (τ 0.025)",
    "dormant_0": "dormant (τ 0)",
    "srank": "srank",
    "effective_rank": "effective rank",
    "feature_rank": "feature rank",
    "active_units": "active units",
    "weight_norm": "weight norm",
    "gradient_norm": "gradient norm",
}
NOT_COMPARABLE = {
    "ars": "ARS's critics end in tanh, not ReLU: dormancy there is another number.",
    "mega": "Modules that no task of MEGA uses are measured, too: they are constant, so never "
    "dormant, and of rank 1.",
    "moore": "MOORE's mixture of experts ends in tanh, not ReLU: dormancy there is another number.",
}
"""By algorithm, why dormancy and ranks are not those of other methods."""


def not_comparable(algorithms: Iterable[str]) -> list[str]:
    """What must be said of these algorithms' dormancy and ranks."""
    return [NOT_COMPARABLE[name] for name in sorted({*algorithms} & {*NOT_COMPARABLE})]


def pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of plasticity that are pooled over layers, with their network and measure."""
    names = [str(name) for name in frame["metric"].unique()]
    parts = {n: n.split("/") for n in names if re.fullmatch(r"plasticity/[^/]+/[^/]+/pooled", n)}
    rows = frame[frame["metric"].isin(list(parts))]
    of = [parts[metric] for metric in rows["metric"]]
    return rows.assign(network=[p[1] for p in of], measure=[p[2] for p in of])


def at_the_end(rows: pd.DataFrame) -> pd.DataFrame:
    """Of such rows those at the last step that all runs of a label have, without NaN; one for each
    seed, the mean of its runs.
    """
    last = at_last_shared(rows).dropna(subset="value")
    seed = ["label", "metric", "seed"]
    means = last.groupby(seed, observed=True)["value"].transform("mean")
    return last.assign(value=means).drop_duplicates(seed)


def plasticity(frame: pd.DataFrame) -> Table | None:
    """Final plasticity of each network, pooled over its layers, IQM over seeds."""
    wanted = pooled(frame)
    if wanted.empty:
        return None
    final = at_the_end(wanted)
    last = wanted.groupby("label", observed=True)["env_step"].max()
    used = final.groupby("label", observed=True)["env_step"].min()
    early = [f"{label} at step {step}" for label, step in used[used < last].items()]
    key = ["label", "network", "measure"]
    samples = {
        tuple(map(str, names)): rows["value"].to_numpy()[:, None]
        for names, rows in final.groupby(key, observed=True, sort=False)
    }
    networks = sorted(final["network"].unique())
    rows: list[tuple[Cell, ...]] = []
    for label, network in itertools.product(final["label"].unique(), networks):
        own = [samples.get((str(label), network, measure)) for measure in PLASTICITY]
        seeds = max((len(sample) for sample in own if sample is not None), default=0)
        if seeds:
            cells = [None if sample is None else estimate(iqm, sample) for sample in own]
            rows.append((str(label), network, seeds, *cells))
    notes: tuple[str, ...] = (
        "On a fixed probe batch of each run's own tasks and goals, of one size for every task set; "
        "pooled over the layers that "
        "were measured; layers with other activations than ReLU are not comparable in dormancy.",
        *not_comparable(final["algorithm"].astype(str)),
        "Dormancy rises with width while success rises too: it is not loss of performance.",
    )
    if early:
        notes += (f"At the last step that all seeds share, before the end: {', '.join(early)}.",)
    columns = ("method", "network", "seeds", *PLASTICITY.values())
    caption = "Plasticity at the end of training, IQM over seeds."
    return without_empty(Table("plasticity", caption, columns, tuple(rows), notes))
