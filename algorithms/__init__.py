"""What is compared: one file an algorithm. Knows nothing of files, processes or command lines."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms.algorithm import Algorithm

ALGORITHMS: dict[str, str] = {
    "mtsac": "algorithms.mtsac:MTSAC",
    "d2r": "algorithms.d2r:D2R",
    "mega": "algorithms.mega:MEGA",
    "softmodules": "algorithms.softmodules:SoftModules",
    "moore": "algorithms.moore:MOORE",
    "paco": "algorithms.paco:PaCo",
    "film": "algorithms.film:FiLM",
    "brc": "algorithms.brc:BRC",
    "ars": "algorithms.ars:ARS",
    "care": "algorithms.care:CARE",
}
"""The built-in algorithms. Other packages add theirs under the entry-point group below."""

ENTRY_POINTS = "mtscale.algorithms"


def algorithm_names() -> list[str]:
    """Every name that `make bench ALG=` knows."""
    return [*ALGORITHMS, *(point.name for point in entry_points(group=ENTRY_POINTS))]


def path_of(name: str) -> str:
    """`package.module:Class` of a registered name; such a path is its own.

    Imports nothing. Raises LookupError for an unknown name.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return point.value
    if ":" in name:
        return name
    raise LookupError(name)


def load(name: str) -> type[Algorithm]:
    """The class of a registered name or of `package.module:Class`.

    Raises LookupError for an unknown name, ImportError or AttributeError where a path leads
    nowhere, and TypeError where it does not lead to an `Algorithm` with `Settings`.
    """
    path = path_of(name)
    module, _, attribute = path.partition(":")
    if not module:
        raise ImportError(f"{path} names no module")
    found = getattr(importlib.import_module(module), attribute)
    from algorithms.algorithm import Algorithm

    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise TypeError(f"{path} is not a subclass of algorithms.algorithm.Algorithm")
    if not hasattr(found, "Settings"):
        raise TypeError(f"{path} has no Settings: a frozen dataclass, perhaps empty")
    return found


def presets_of(algorithm: type[Algorithm], name: str) -> dict[str, Any]:
    """What a class and its bases set for a preset, field → value; a class wins over its bases."""
    values: dict[str, Any] = {}
    for base in reversed(algorithm.__mro__):
        presets: Mapping[str, Mapping[str, Any]] = vars(base).get("presets", {})
        values |= presets.get(name, {})
    return values
