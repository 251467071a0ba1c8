"""What goes without saying of a configuration: the defaults of its method's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from algorithms import ALGORITHMS
from algorithms.declared import declared


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
