"""The configuration in a run's directory: whether it is whole, and that of the run at hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from suite.messages import UserError
from suite.runs.files import NOT_A_FILE, unreadable


def stored_identity(path: Path) -> dict[str, Any] | None:
    """The identity in a config.json; None where that is missing or does not have its own hash.

    Raises Failure where it cannot be read.
    """
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        name = str(stored.pop("run"))
    except (ValueError, KeyError, TypeError, AttributeError, *NOT_A_FILE):
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    return stored if name.endswith(digest[:8]) else None


def refuse_other(stored: dict[str, Any], mine: dict[str, Any], folder: Path) -> None:
    """Raises UserError where the identity stored in a folder is not that of the run at hand."""
    stored, mine = flatten(stored), flatten(json.loads(json.dumps(mine)))
    different = [k for k in mine | stored if mine.get(k) != stored.get(k)]
    if different:
        key = different[0]
        count = len(different) - 1
        more = f" (and {count} other difference{'s' * (count > 1)})" if count else ""
        raise UserError(
            f"run-dir: {folder} holds a run with {key.replace('_', '-')} "
            f"{stored.get(key)!r}, not {mine.get(key)!r}{more}; name another directory, or "
            "add --force to delete it"
        )


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """Nested configuration as one level, by field name."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value) if isinstance(value, dict) else {key: value}
    return flat
