"""What the methods here declare, their settings and presets, read without loading torch.

Loading torch takes longer than a refusal may. Declarations do not need it: a method's file is run
as it stands, with one stand-in for every name of torch, in modules of its own that nobody imports.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from algorithms import ALGORITHMS, load, path_of

if TYPE_CHECKING:
    from algorithms.algorithm import Algorithm

HERE = f"{__package__}."


def declared(name: str) -> type[Algorithm]:
    """The class of an algorithm, of which `Settings` and `presets` alone are what they are.

    It is `load`, whose errors it raises, for others than those here, where torch is loaded anyway,
    and for a file that computes with torch as it is run.
    """
    if name not in ALGORITHMS or "torch" in sys.modules:
        return load(name)
    module, _, attribute = path_of(name).partition(":")
    try:
        found: type[Algorithm] = getattr(without_torch(module), attribute)
    except Exception:  # whatever a stand-in leads to
        return load(name)
    return found


class StandIn(type):
    """The type of what stands for torch: it can be named, called, derived from and decorate."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return Nothing


class Nothing(metaclass=StandIn):
    """Whatever torch has."""


@cache
def without_torch(name: str) -> ModuleType:
    """A module of this package, run with the stand-in; what it imports from here is run so, too."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and `inspect` look a class's module up by name; this one is another module's.
    module.__name__ = f"{name} without torch"
    sys.modules[module.__name__] = module
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": imported}
    exec(spec.loader.get_code(name), vars(module))  # type: ignore[attr-defined]
    return module


def imported(name: str, *context: Any) -> Any:
    """`__import__` of such a module."""
    if name.partition(".")[0] == "torch":
        return Nothing
    if name.startswith(HERE) and name not in sys.modules:
        return without_torch(name)
    return builtins.__import__(name, *context)
