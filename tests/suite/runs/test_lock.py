from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from suite.messages import UserError
from suite.runs.lock import locked


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        (tmp_path / "lock").open("w") as file,
        pytest.raises(UserError, match=r"^results: .*lock cannot be locked .*choose another"),
    ):
        locked(file)
