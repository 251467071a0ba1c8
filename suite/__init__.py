"""The suite: how the algorithms are fed, measured and recorded.

From Python, `suite.train` trains a run as the command line does:

    import suite
    rows = suite.train("mtsac", preset="smoke", tasks="reach,push", actor_width=32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def train(algorithm: str = "mega", **fields: Any) -> pd.DataFrame:
    """Trains one configuration, or resumes it, and returns its rows; several seeds one below the
    other.

    `algorithm` is a registered name or package.module:Class; `fields` are those of
    `python -m suite bench --help`, with underscores. Rows have the columns of rows.parquet. Raises
    `suite.messages.UserError` with a line that says what to change, its kind `Diverged` where a run
    diverged, when the other seeds are trained (all have rows in their folders), and
    KeyboardInterrupt where the run was interrupted, which the same call resumes.
    """
    import pandas as pd

    from suite.bench import bench
    from suite.checks import check
    from suite.config import DESTRUCTIVE
    from suite.options import parse
    from suite.process import prepare
    from suite.runs.directory import RunDirectory
    from suite.runs.finished import ROWS
    from suite.values import written

    prepare()
    given = ["--alg", algorithm]
    for name, value in fields.items():
        # What deletes is given without a value, as on the command line, or not at all.
        if value is True:
            given += [f"--{name}"]
        elif value is not False or name not in DESTRUCTIVE:
            given += [f"--{name}", written(value)]
    config = parse(given)
    check(config)
    if bench(config):
        raise KeyboardInterrupt("the run was interrupted; the same call resumes it")
    folders = [RunDirectory(run).path for run in config.each_seed()]
    return pd.concat([pd.read_parquet(folder / ROWS) for folder in folders], ignore_index=True)
