"""From result files to one tidy frame: runs of ours, joined rows, results of other code.

`load` reads folders of runs, Parquet and CSV files (`analysis.csv_rows`). Every row has `run,
algorithm, seed, task, metric, env_step, value`, the protocol, parameter counts, widths and
versions, and `label`, the configuration that it is a sample of (`analysis.labels`).
`analysis.scores` makes arrays of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from analysis.csv_rows import Lost, is_other_table, read_csv
from analysis.evaluations import Ends, at_shared_ends, gaps, partial, without_more_of_diverged
from analysis.frame import SUCCESS, runs, to_frame
from analysis.joining import Run, joined
from analysis.labels import unnamed
from analysis.messages import RowsError, listed, note
from analysis.parquet_rows import Part, configuration, read_parquet
from analysis.remarks import remarks_on_runs

__all__ = ["RowsError", "load", "runs"]

NOT_RUNS = frozenset({"rows", "checkpoints"})
"""Folders of a run that no other run lies in."""
HALF_A_DIGIT = 0.011
"""What may lie between a mean of tasks and a whole success, both of which were rounded."""


def load(
    sources: Sequence[Path | str],
    *,
    skip_malformed: bool = False,
    metrics: Sequence[str] | None = None,
    ends: Ends = "shared",
) -> pd.DataFrame:
    """The rows of all sources as one frame, the same in whatever order rows and files come.

    A source is a folder, searched for finished runs, Parquet and CSV files, or such a file. Parts
    of a run in several files are joined. `metrics` are prefixes of the metrics to read
    (`["success"]` is success and success/mean); None is all. Text columns are categorical, empty
    where unknown; numbers are float64, NaN where unknown, but for seed and env_step, int64.
    `source` names the files that a run was read from. Where runs that are compared end at
    different steps, rows beyond the last step that all share are left out (`ended_at` and
    `scored_at`), or with `ends="refuse"` an error.

    Runs in progress, rows that are there twice and the like are named on stderr. Raises RowsError
    for a source that is not there and, naming file and line, for rows that are malformed, partial
    or contradict one another; `skip_malformed` leaves their runs out as a whole and names them.
    """
    parts, lost, unreadable = read_all(sources, metrics)
    found, contradicting = joined(parts)
    trouble = Trouble(skip_malformed, bool(parts))
    trouble.lines += [*unreadable, *(line.text for line in lost), *contradicting]
    frame, there = pd.DataFrame(), ""
    if found:
        frame, impossible = to_frame(found)
        trouble.lines += [line for lines in impossible.values() for line in lines]
        frame = trouble.leave_out(frame, may_have_lost(found, frame, lost, metrics))
        frame = trouble.leave_out(frame, {*impossible})
        there = listed_metrics(frame)
        frame = of_metrics(frame, metrics)
        frame = trouble.leave_out(frame, partial(frame))
        frame = trouble.leave_out(frame, untold(frame))
        trouble.refuse()
        whole, frame = frame, at_shared_ends(frame, ends)
        while lacking := gaps(frame):
            whole = trouble.leave_out(whole, lacking)
            trouble.refuse()
            # Without these runs the others may share a later step.
            frame = at_shared_ends(whole, ends)
        frame = without_more_of_diverged(frame)
    trouble.tell()
    if frame.empty:
        what = f" of {', '.join(metrics)}" if metrics is not None and found else ""
        raise RowsError(f"no result rows{what} in {', '.join(str(s) for s in sources)}{there}")
    for line in to_be_told(frame, [run for run in found if run.name not in trouble.runs], metrics):
        note(line)
    return frame


class Trouble:
    """What is wrong with the rows: an error, or a note on the runs that are left out for it."""

    def __init__(self, skip: bool, readable: bool) -> None:
        self.skip = skip
        self.readable = readable
        """Whether anything would be left."""
        self.lines: list[str] = []
        """What is wrong, and where."""
        self.runs: set[str] = set()

    def leave_out(self, frame: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
        """The frame without runs of these names; a mapping says of each what is wrong with it."""
        self.runs |= {*names}
        self.lines += names.values() if isinstance(names, Mapping) else []
        return frame[~frame["run"].isin(list(names))] if names else frame

    def refuse(self) -> None:
        """Raises RowsError where something is wrong that is not to be skipped."""
        if self.lines and not self.skip:
            way_out = ", or leave their runs out with --skip-malformed" if self.readable else ""
            raise RowsError(
                "these rows are malformed, partial or contradict one another; mend or remove "
                f"them{way_out}:\n{listed(self.lines)}"
            )

    def tell(self) -> None:
        """Names what was skipped, and the runs that are left out as a whole for it."""
        self.refuse()
        if self.lines:
            note(f"skipped as malformed or partial:\n{listed(self.lines)}")
        if self.runs:
            names = listed(sorted(self.runs))
            note(f"left out as a whole, for what was skipped of them:\n{names}")


def to_be_told(
    frame: pd.DataFrame, found: Sequence[Run], metrics: Sequence[str] | None
) -> Iterator[str]:
    """What a reader of these rows must know, line by line."""
    for lines in remarks_on_runs(frame).values():
        yield from lines
    yield from disagreeing(frame)
    if metrics is None or "success" in metrics:
        scored = set(frame.loc[frame["metric"].isin(SUCCESS), "run"].unique())
        unscored = [f"{run.name} ({run.source})" for run in found if run.name not in scored]
        if scored and unscored:
            yield f"without rows of success, so without scores:\n{listed(unscored)}"
    for algorithm, fields in unnamed(found).items():
        yield f"configurations of {algorithm} also differ in {', '.join(fields)}"


def read_all(
    sources: Sequence[Path | str], metrics: Sequence[str] | None
) -> tuple[list[Part], list[Lost], list[str]]:
    """The parts that the files of all sources hold, lines that are lost, and unreadable files."""
    parts: list[Part] = []
    lost: list[Lost] = []
    problems: list[str] = []

    def read(path: Path) -> tuple[list[Part], list[Lost], list[str]]:
        try:
            if path.suffix.lower() != ".csv":
                return read_parquet(path, metrics), [], []
            rows = read_csv(path)
        except RowsError as error:
            return [], [], [str(error)]
        return rows.parts(), rows.lost, []

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one_file in pool.map(read, files(sources)):
            for all_files, own in zip((parts, lost, problems), one_file, strict=True):
                all_files.extend(own)  # type: ignore[attr-defined]
    lost.sort(key=lambda line: by_number(line.text))
    return parts, lost, sorted(problems)


def by_number(text: str) -> list[tuple[int, str]]:
    """A key that sorts line 9 before line 10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def may_have_lost(
    found: Sequence[Run], frame: pd.DataFrame, lost: Sequence[Lost], metrics: Sequence[str] | None
) -> set[str]:
    """The runs to which a line that could not be read may have belonged, and which lack its value.

    What cannot be told of the line counts against the run.
    """
    names: set[str] = set()
    for line in lost:
        known = line.known
        if "metric" in known and metrics and not known["metric"].startswith(tuple(metrics)):
            continue
        for run in found:
            same = all(
                known.get(n, run.columns[n]) == run.columns[n] for n in ("algorithm", "seed")
            )
            files = {part.source for part in run.parts if part.lines}
            # A line whose experiment is known may be of a run that begins in another file.
            if not same or not files or ("algorithm" not in known and line.source not in files):
                continue
            rows = frame[frame["run"] == run.name]
            there = [rows[name] == known.get(name) for name in ("task", "metric", "env_step")]
            if not (there[0] & there[1] & there[2]).any():
                names.add(run.name)
    return names


def of_metrics(frame: pd.DataFrame, metrics: Sequence[str] | None) -> pd.DataFrame:
    """The rows whose metric begins with one of `metrics`; None is all."""
    names = frame["metric"].cat.categories
    wanted = [metrics is None or name.startswith(tuple(metrics)) for name in names]
    return frame if all(wanted) else frame[frame["metric"].isin(names[wanted])]


def listed_metrics(frame: pd.DataFrame) -> str:
    """What metrics there are, for a refusal of rows that have no other, and how to spell them."""
    names = sorted({str(name).split("/")[0] for name in frame["metric"].unique()})
    if not names:
        return ""
    small = [name.lower() for name in names if name.lower() != name]
    hint = f"; write {', '.join(small)}" if small else ""
    return f"; there are {', '.join(names)}{hint}"


def untold(frame: pd.DataFrame) -> dict[str, str]:
    """By run without a configuration that only its config_hash tells from another one of its label
    and seed, a line that says so.
    """
    table = runs(frame).astype({"label": str, "config_hash": str})
    table = table[table["config_hash"] != ""]
    twice = table[table.duplicated(["label", "seed"], keep=False)]
    found = {}
    for (label, seed), own in twice.groupby(["label", "seed"]):
        if own["config_hash"].nunique() > 1:
            for name, source in own["source"].items():
                if configuration(source):
                    continue
                found[str(name)] = (
                    f"{source}: run {name} is one of {len(own)} of {label} and seed {seed} whose "
                    "config_hash differs, and no configuration says in what; give the files that "
                    "the runs wrote"
                )
    return found


def disagreeing(frame: pd.DataFrame) -> list[str]:
    """A line for each CSV's run whose whole success is not the mean over the tasks beside it."""
    names = [name for name in frame["source"].cat.categories if ".csv" in name.lower()]
    rows = frame.loc[
        frame["source"].isin(names), ["label", "run", "task", "metric", "env_step", "value"]
    ]
    key = ["label", "run", "env_step"]
    single = rows[(rows["metric"] == "success") & (rows["task"] != "")]
    table = single.groupby(key, observed=True)["value"].agg(["mean", "size"])
    table["whole"] = rows[rows["metric"] == "success/mean"].set_index(key)["value"]
    complete = table["size"] == table.groupby("label", observed=True)["size"].transform("max")
    odd = table[complete & ((table["mean"] - table["whole"]).abs() > HALF_A_DIGIT)].reset_index()
    return [
        f"run {run}: success of the whole agent at step {step} is {whole:g}, the mean over its "
        f"tasks {mean:.3f}; scores are of the tasks"
        for run, step, whole, mean in odd.drop_duplicates("run")[
            ["run", "env_step", "whole", "mean"]
        ].itertuples(index=False, name=None)
    ]


def files(sources: Sequence[Path | str]) -> Iterator[Path]:
    """The row files of the sources, each once; names runs in progress on stderr."""
    found: dict[str, Path] = {}
    unfinished: list[str] = []
    for source in map(Path, sources):
        if source.is_dir():
            own = list(files_below(source, unfinished))
        elif source.is_file():
            if source.suffix.lower() not in (".csv", ".parquet"):
                raise RowsError(f"{source}: not a folder of runs, a rows.parquet or a CSV file")
            own = [source]
        else:
            raise RowsError(f"{source}: there is no such folder or file")
        for path in own:
            found.setdefault(os.path.realpath(path), path)
    if unfinished:
        note(f"runs in progress, left out until they are done:\n{listed(unfinished)}")
    yield from found.values()


def files_below(folder: Path, unfinished: list[str]) -> Iterator[Path]:
    """Every finished run's rows.parquet below a folder, and row files that lie in no run."""
    other = []
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(set(folders) - NOT_RUNS)
        if "rows.parquet" in names:
            yield Path(path) / "rows.parquet"
        elif "config.json" in names:
            unfinished.append(path)
        else:
            for name in sorted(names):
                file = Path(path) / name
                if not file.is_file():
                    continue  # opening a pipe would wait for ever
                if file.suffix.lower() == ".csv" and is_other_table(file):
                    other.append(str(file))
                elif file.suffix.lower() in (".csv", ".parquet") and name != "timing.parquet":
                    yield file
    if other:
        note(f"no result rows, left out:\n{listed(other)}")
