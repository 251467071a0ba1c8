"""Whether a class of settings is read as it is written; does without torch."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import MemberDescriptorType
from typing import Any


def fault_of(settings: Any) -> str:
    """What is wrong with it, or nothing: a frozen dataclass whose fields all have defaults."""
    if not isinstance(settings, type):
        return f"Settings is {type(settings).__name__}(...), no class; write Settings = its class"
    if not is_dataclass(settings) or not settings.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return "Settings is not a frozen dataclass; write @dataclass(frozen=True) above it"
    if ignored := ignored_field(settings):
        name, owner, decorated = ignored
        if decorated:
            return f"Settings: {owner}.{name} has no type and is no field; write {name}: int = …"
        return f"Settings: write @dataclass(frozen=True) above {owner}, or {name!r} is no field"
    for field in fields(settings):
        if field.default is MISSING and field.default_factory is MISSING:
            return f"its field {field.name!r} has no default; give one"
    return ""


@cache
def ignored_field(settings: type[Any]) -> tuple[str, str, bool] | None:
    """A name that is written as a field and makes none, its class, and if that is decorated.

    The mark of a dataclass is inherited; what a class without its own decorator adds is not seen.
    """
    known, seen = {f.name for f in fields(settings)}, set[str]()
    for base in settings.__mro__:
        decorated, typed = "__dataclass_params__" in vars(base), inspect.get_annotations(base)
        seen |= typed.keys() if decorated else set()
        of_fields = {name for name, kind in typed.items() if "ClassVar" not in str(kind)}
        values = {k for k, v in vars(base).items() if not isinstance(v, MemberDescriptorType)}
        # A mixin may say without a value which fields it reads, and slots are no values.
        lost = (of_fields - known) | (values & known)
        if lost := lost - seen:
            return min(lost), base.__name__, decorated
    return None
