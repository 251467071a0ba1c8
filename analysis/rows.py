"""From result files to one tidy frame: runs of ours, joined rows, results of other code.

`load` reads folders of runs, single `rows.parquet` and CSV files (`analysis.csv_rows`). Every row
has `run, algorithm, seed, task, metric, env_step, value`, the protocol, parameter counts, widths
and versions, and `label`, the configuration that it is a sample of (`analysis.labels`).
`analysis.scores` makes arrays of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.columns import NUMBERS, TEXT, WIDTHS
from analysis.csv_rows import read_csv
from analysis.labels import flat, labels, unnamed
from analysis.messages import RowsError, listed, note
from analysis.parquet_rows import Piece, Run, read_parquet

__all__ = ["RowsError", "load", "runs"]

NOT_RUNS = frozenset({"rows", "checkpoints"})
"""Folders of a run that no other run lies in."""


def load(
    sources: Sequence[Path | str],
    *,
    skip_malformed: bool = False,
    metrics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of all sources as one frame, those of a run one after another.

    A source is a folder, searched for finished runs, a rows.parquet, or a CSV. `metrics` are
    prefixes of the metrics to read (`["success"]` is success and success/mean); None is all.
    Text columns are categorical, empty where unknown; numbers are float64, NaN where unknown, but
    for seed and env_step, int64. `source` is the file that a run was read from.

    Runs in progress, runs that are there twice and the like are named on stderr. Raises RowsError
    for a source that is not there and, unless they are to be skipped, naming file and line, for
    malformed or partial rows.
    """
    pieces: list[Piece] = []
    problems: list[str] = []
    unfinished: list[str] = []
    paths = list(files(sources, unfinished))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for piece, wrong in pool.map(lambda path: read(path, metrics), paths):
            pieces += [piece] if piece else []
            problems += wrong
    if unfinished:
        note(f"runs in progress, left out until they are done:\n{listed(unfinished)}")
    # Names before rows: a run that is there twice must not count as two.
    piece_runs, counts, values = joined(pieces)
    frame, partial = without_partial(to_frame(piece_runs, counts, values))
    if problems + partial and not skip_malformed:
        raise RowsError(
            "these rows are malformed or partial; mend or remove them, or skip them with "
            f"--skip-malformed:\n{listed(problems + partial)}"
        )
    if problems + partial:
        note(f"skipped as malformed or partial:\n{listed(problems + partial)}")
    if frame.empty:
        what = f" of {', '.join(metrics)}" if metrics is not None and piece_runs else ""
        raise RowsError(f"no result rows{what} in {', '.join(str(s) for s in sources)}")
    for line in repeated_seeds(frame):
        note(line)
    for algorithm, fields in unnamed(piece_runs).items():
        note(f"configurations of {algorithm} also differ in {', '.join(fields)}")
    return frame


def read(path: Path, metrics: Sequence[str] | None) -> tuple[Piece | None, list[str]]:
    """What can be read of one file, and a line for each thing that is wrong with it."""
    try:
        if path.suffix.lower() != ".csv":
            return read_parquet(path, metrics), []
        rows = read_csv(path)
    except RowsError as error:
        return None, [str(error)]
    if rows.ignored:
        note(f"{path}: columns not used: {', '.join(rows.ignored)}")
    return rows.piece(metrics), rows.problems


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run, indexed by its name: the columns that all of its rows share."""
    own = [name for name in frame.columns if name not in ("task", "metric", "env_step", "value")]
    first = ~frame["run"].duplicated()
    return frame.loc[first, own].set_index(frame.loc[first, "run"].astype(str)).drop(columns="run")


def repeated_seeds(frame: pd.DataFrame) -> list[str]:
    """A line for each configuration that has several runs of one seed: no independent sample."""
    table = runs(frame).astype({"label": str})
    twice = table[table.duplicated(["label", "seed"])]
    return [
        f"{label}: several runs of seed {', '.join(map(str, sorted(set(rows['seed']))))}, which "
        "are not independent"
        for label, rows in twice.groupby("label")
    ]


def files(sources: Sequence[Path | str], unfinished: list[str]) -> Iterator[Path]:
    """The row files of the sources, each once; adds runs in progress to `unfinished`."""
    seen: set[str] = set()
    for source in map(Path, sources):
        if source.is_dir():
            found = list(runs_below(source, unfinished))
        elif source.is_file():
            if source.suffix.lower() not in (".csv", ".parquet"):
                raise RowsError(f"{source}: not a folder of runs, a rows.parquet or a CSV file")
            found = [source]
        else:
            raise RowsError(f"{source}: there is no such folder or file")
        for path in found:
            if os.path.abspath(path) not in seen:
                seen.add(os.path.abspath(path))
                yield path


def runs_below(folder: Path, unfinished: list[str]) -> Iterator[Path]:
    """Every finished run's rows.parquet below a folder, in order of their paths."""
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(set(folders) - NOT_RUNS)
        if "rows.parquet" in names:
            yield Path(path) / "rows.parquet"
        elif "config.json" in names:
            unfinished.append(path)


def joined(pieces: Sequence[Piece]) -> tuple[list[Run], list[int], pa.Table | None]:
    """All runs, the number of rows of each, and their rows; the first of those of one name."""
    kept: list[Run] = []
    counts: list[int] = []
    tables: list[pa.Table] = []
    sources: dict[str, str] = {}
    twice: list[str] = []
    for piece in pieces:
        start = 0
        for run, count in zip(piece.runs, piece.counts, strict=True):
            name = run.columns["run"]
            if name in sources:
                twice.append(f"{name}: in {sources[name]} and in {run.source}")
            else:
                sources[name] = run.source
                kept.append(run)
                counts.append(count)
                tables.append(piece.values.slice(start, count))
            start += count
    if twice:
        note(f"runs that are there twice, of which the first is used:\n{listed(twice)}")
    return kept, counts, pa.concat_tables(tables) if tables else None


def to_frame(found: Sequence[Run], counts: Sequence[int], values: pa.Table | None) -> pd.DataFrame:
    """The tidy frame of runs that have `counts` rows each in `values`."""
    if values is None:
        return pd.DataFrame()
    own = [spelled(run.columns) for run in found]
    texts = {name: [str(row.get(name, "")) for row in own] for name in TEXT}
    versions = sorted({k for row in own for k in row if k.startswith("version_")})
    texts |= {name: [str(row.get(name, "")) for row in own] for name in versions}
    texts |= {"source": [run.source for run in found], "label": labels(found)}
    numbers = {name: [row.get(name) for row in own] for name in NUMBERS if name != "seed"}
    settings = [flat(run.config) for run in found]
    numbers |= {name: [fields.get(name) for fields in settings] for name in WIDTHS}

    columns: dict[str, Any] = {}
    for name in ("task", "metric"):
        encoded = values[name].unify_dictionaries().combine_chunks()
        columns[name] = pd.Categorical.from_codes(
            encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        )
    columns |= {name: values[name].to_numpy() for name in ("env_step", "value")}
    sizes = zip(
        texts["algorithm"], *(numbers[name] for name in WIDTHS), texts["label"], strict=True
    )
    # As tables and figures list them: by size, not by the digits of its name.
    by_size = sorted(set(sizes), key=lambda x: (x[0], x[1] or 0, x[2] or 0, x[3]))
    for name, per_run in texts.items():
        order = [label for *_, label in by_size] if name == "label" else per_run
        column = pd.Categorical(per_run, categories=list(dict.fromkeys(order)))
        columns[name] = pd.Categorical.from_codes(
            np.repeat(column.codes, counts), dtype=column.dtype
        )
    columns["seed"] = np.repeat(np.array([int(row["seed"]) for row in own]), counts)
    for name, per_number in numbers.items():
        columns[name] = np.repeat(np.array(per_number, dtype=np.float64), counts)
    first = ["run", "label", "algorithm", "seed", "task", "metric", "env_step", "value"]
    return pd.DataFrame({name: columns.pop(name) for name in first} | columns, copy=False)


def spelled(columns: dict[str, Any]) -> dict[str, Any]:
    """A run's columns with one spelling of a list of tasks: early runs wrote reach for reach-v3."""
    tasks = str(columns.get("task_set", ""))
    if not tasks or tasks.upper() in ("MT10", "MT25", "MT50"):
        return columns
    full = [task if task.endswith("-v3") else f"{task}-v3" for task in tasks.split(",")]
    return {**columns, "task_set": ",".join(full)}


def without_partial(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The frame without runs whose evaluations end before the run did, and a line for each."""
    if frame.empty:
        return frame, []
    evaluated = frame["metric"].isin(["success", "success/mean"]).to_numpy()
    last = np.full(len(frame["run"].cat.categories), -1)
    np.maximum.at(
        last, frame["run"].cat.codes.to_numpy()[evaluated], frame["env_step"].to_numpy()[evaluated]
    )
    table = runs(frame)
    names = frame["run"].cat.categories
    expected = table["total_steps"].reindex(names).to_numpy()
    partial = np.flatnonzero((last >= 0) & (last < expected)).tolist()
    lines = [
        f"{table.loc[names[i], 'source']}: run {names[i]} has evaluations up to step {last[i]} of "
        f"{expected[i]:.0f}"
        for i in partial
    ]
    return (frame[~frame["run"].isin(names[partial])] if lines else frame), lines
