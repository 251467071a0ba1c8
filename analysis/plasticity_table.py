"""Plasticity at the end of training, with intervals, from the rows."""

from __future__ import annotations

import itertools

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


def plasticity(frame: pd.DataFrame) -> Table | None:
    """Final plasticity of each network, pooled over its layers, IQM over seeds."""
    names = [str(name) for name in frame["metric"].cat.categories]
    pooled = [n for n in names if n.startswith("plasticity/") and n.endswith("/pooled")]
    wanted = frame.loc[
        frame["metric"].isin(pooled), ["label", "run", "metric", "env_step", "value"]
    ]
    if wanted.empty:
        return None
    final = at_last_shared(wanted).dropna(subset="value")
    last = wanted.groupby("label", observed=True)["env_step"].max()
    used = final.groupby("label", observed=True)["env_step"].min()
    early = [f"{label} at step {step}" for label, step in used[used < last].items()]
    samples = {
        (str(label), str(metric)): rows["value"].to_numpy()[:, None]
        for (label, metric), rows in final.groupby(["label", "metric"], observed=True, sort=False)
    }
    networks = list(dict.fromkeys(name.split("/")[1] for name in pooled))
    rows: list[tuple[Cell, ...]] = []
    for label, network in itertools.product(final["label"].unique(), networks):
        cells: list[Cell] = []
        seeds = 0
        for metric in PLASTICITY:
            sample = samples.get((str(label), f"plasticity/{network}/{metric}/pooled"))
            cells.append(None if sample is None else estimate(iqm, sample))
            seeds = max(seeds, 0 if sample is None else len(sample))
        if seeds:
            rows.append((str(label), network, seeds, *cells))
    notes: tuple[str, ...] = (
        "On a fixed probe batch of each run's own tasks and goals, of one size for every task set; "
        "pooled over the layers that "
        "were measured; layers with other activations than ReLU are not comparable in dormancy.",
        "Dormancy rises with width while success rises too: it is not loss of performance.",
    )
    if early:
        notes += (f"At the last step that all seeds share, before the end: {', '.join(early)}.",)
    columns = ("method", "network", "seeds", *PLASTICITY.values())
    caption = "Plasticity at the end of training, IQM over seeds."
    return without_empty(Table("plasticity", caption, columns, tuple(rows), notes))
