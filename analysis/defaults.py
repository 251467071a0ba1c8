"""What goes without saying of a configuration: the defaults of its method's settings, and what runs
had that are older than one of the suite's fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from algorithms import ALGORITHMS
from algorithms.declared import declared

OLDER = {
    "training": {"precision": "float32", "updates_per_step": 1},
    "evaluation": {"metrics_every": 1, "eval_goals": "same"},
}
"""By section of a configuration the fields that it leaves out where they have these values."""


@cache
def defaults(algorithm: str) -> Mapping[str, Any]:
    """The default of each setting by name, as files spell it.

    Of a method that is not ours, whose file may not be here, those that MT-SAC has, too.
    """
    settings = declared(algorithm if algorithm in ALGORITHMS else "mtsac").Settings
    return {
        f.name: json.loads(json.dumps(f.default))
        for f in fields(settings)
        if f.default is not MISSING
    }
