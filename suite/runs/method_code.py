"""The code of a method that is not the suite's: its files, and whether they are what a run began
with.

A method's settings are part of a run's identity, its lines are not: with other ones the same
command would show an old result, or go on with a network that another one has trained.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from algorithms import load
from suite.messages import UserError

OURS = ("algorithms", "suite", "analysis")
"""Packages of the suite, whose commit every session has."""
INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def code_of(method: type[Any]) -> dict[str, str]:
    """A digest of each file that a method is made of, by module: those of its class and of the
    classes that it builds on, and what they import, without what is installed; none where all of it
    is the suite's.

    Comments, docstrings and layout do not count.
    """
    own = method.__module__.partition(".")[0]
    waiting = [kind.__module__ for kind in (*method.__mro__, *method.Settings.__mro__)]
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        file = Path(getattr(sys.modules.get(name), "__file__", None) or "")
        top = name.partition(".")[0]
        installed = top != own and any(file.is_relative_to(folder) for folder in INSTALLED)
        if name in found or top in OURS or installed or file.suffix != ".py":
            continue
        tree = ast.parse(file.read_bytes())
        found[name] = digest(tree)
        waiting += imported(tree, sys.modules[name].__package__ or "")
    return dict(sorted(found.items()))


def digest(tree: ast.Module) -> str:
    """Hexadecimal digits that stand for a module's statements, without strings that stand alone."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not is_text(line)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def is_text(line: ast.stmt) -> bool:
    """Whether a statement is a docstring, of a field too."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """The modules that a module of a package may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            base = resolve_name(name, package) if node.level else name
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def refuse_other_code(algorithm: str, first: Mapping[str, Any], folder: Path) -> None:
    """Raises UserError where the method's code is not what the first session of a run had."""
    before = first.get("method")
    # How Python writes code as a tree differs between its versions.
    if not before or first.get("python", "").split(".")[:2] != python_version():
        return
    now = code_of(load(algorithm))
    changed = sorted(name for name in before | now if before.get(name) != now.get(name))
    if changed:
        raise UserError(
            f"run-dir: {folder} was begun with other code of {', '.join(changed)}; put that back, "
            "name another folder with --results, or add --force to delete the run and train it "
            "again"
        )


def python_version() -> list[str]:
    """Major and minor."""
    return platform.python_version().split(".")[:2]
