"""What makes a run done: a result, and rows that are to the bit those it was written with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from suite.config import RunConfig
from suite.runs.files import NOT_A_FILE, unreadable, write_atomically
from suite.runs.manifest import line_of
from suite.runs.rows import read_rows

RESULT, ROWS = "result.json", "rows.parquet"


def done(folder: Path, run: str) -> dict[str, Any] | None:
    """The result of the run of this name in a folder, its rows checked; None where it is not done.

    Raises ValueError, naming the file, where the result or the rows are damaged or another run's,
    and Failure where one cannot be read.
    """
    path = folder / RESULT
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        whole = seal({k: v for k, v in result.items() if k != "sha256"}) == result["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, *NOT_A_FILE):
        whole = False
    except OSError as error:
        raise unreadable(path, error) from None
    if not whole:
        raise ValueError(f"{path} is damaged")
    if result["run"] != run:
        raise ValueError(f"{path} belongs to {result['run']}")
    line = line_of(folder / ROWS, result["rows_sha256"])
    if line:
        raise ValueError(line)
    return result


def write_result(config: RunConfig, folder: Path, lost: tuple[str, ...] = ()) -> dict[str, Any]:
    """Writes result.json from the rows that lie beside it; returns its contents."""
    data = (folder / ROWS).read_bytes()
    result = {
        **last_evaluation(config, read_rows(pa.BufferReader(data))),
        **({"lost": list(lost)} if lost else {}),
        "rows_sha256": hashlib.sha256(data).hexdigest(),
    }
    result["sha256"] = seal(result)
    write_atomically(folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    return result


def seal(result: dict[str, Any]) -> str:
    """The digest of a result's values."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def last_evaluation(config: RunConfig, rows: pa.Table) -> dict[str, Any]:
    """Success and return of every task at the end of a run."""
    steps = config.rounds * config.steps_per_round
    last = rows.filter(pc.equal(rows["env_step"], steps)).to_pylist()
    values = {(row["metric"], row["task"]): row["value"] for row in last}
    return {
        "run": config.name(),
        "env_steps": steps,
        "episodes_per_task": config.evaluated_episodes(final=True),
        "success": {task: values["success", task] for task in config.tasks},
        "return": {task: values["return", task] for task in config.tasks},
        "mean_success": values["success/mean", ""],
    }
