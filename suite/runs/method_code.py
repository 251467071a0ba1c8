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
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from algorithms import load, path_of
from suite.messages import UserError

SUITE = ("algorithms", "suite", "analysis")
"""Packages whose commit every session has."""
INSTALLED = {"site-packages", "dist-packages"}
"""Folders of code that has a version."""
STANDARD = Path(sysconfig.get_path("stdlib"))


def code_of(algorithm: str) -> dict[str, str]:
    """A digest of each file that a method is made of, by module: those of its class and of the
    classes that it builds on, and what they import, without what is installed; none where all of it
    is the suite's.

    Comments, docstrings and layout do not count. Files are read once for each class that is loaded,
    for what is edited later is not what runs.
    """
    return of_class(load(algorithm), path_of(algorithm).partition(":")[0])


@cache
def of_class(method: type[Any], named: str) -> dict[str, str]:
    """The same of a class, and of the module that a command names it in."""
    own = method.__module__.partition(".")[0]
    kinds = (*method.__mro__, *method.Settings.__mro__)
    waiting = [named, *(kind.__module__ for kind in kinds)]
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        file = None if name in found or top in SUITE else file_of(name)
        if file is None or (top != own and is_installed(top, file)):
            continue
        tree = ast.parse(file.read_bytes())
        found[name] = digest(tree)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += imported(tree, package)
    return dict(sorted(found.items()))


def file_of(name: str) -> Path | None:
    """The source of a module, whether it is loaded or not; None where it has none."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    file = Path((script if name == "__main__" else origin(name)) or "")
    return file if file.suffix == ".py" and file.is_file() else None


def origin(name: str) -> str | None:
    """Where a module would be imported from; imports nothing, which a package's name would."""
    folders, spec, upto = None, None, ""
    for part in name.split("."):
        upto = f"{upto}.{part}".lstrip(".")
        with suppress(Exception):  # a user's finder, or a folder that is none
            found = (finder.find_spec(upto, folders) for finder in sys.meta_path)
            spec = next((own for own in found if own is not None), None)
        if spec is None:
            return None
        folders = spec.submodule_search_locations
    return spec.origin if spec else None


def is_installed(top: str, file: Path) -> bool:
    """Whether a file belongs to Python or a package that was installed, wherever that lies."""
    known = file.is_relative_to(STANDARD) or not INSTALLED.isdisjoint(file.parts)
    return known or top in distributions()


@cache
def distributions() -> Collection[str]:
    """Packages that have a version."""
    return packages_distributions().keys()


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
    """The modules that a module of a package may import, with the packages that they lie in."""
    for node in ast.walk(tree):
        names = [alias.name for alias in getattr(node, "names", [])]
        if isinstance(node, ast.Import):
            found = names
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            with suppress(ImportError):  # of no package, or above it: such an import fails, too
                base = resolve_name(base, package)
            found = [base, *(f"{base}.{name}" for name in names)]
        else:
            continue
        for name in found:
            parts = name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def refuse_other_code(algorithm: str, first: Mapping[str, Any], folder: Path, way_out: str) -> None:
    """Raises UserError, with a way out, where the method's code is not what the first session of a
    run had.
    """
    before = first.get("method")
    # How Python writes code as a tree differs between its versions.
    if not before or first.get("python", "").split(".")[:2] != python().split("."):
        return
    now = code_of(algorithm)
    changed = sorted(name for name in before | now if before.get(name) != now.get(name))
    if changed:
        raise UserError(
            f"run-dir: {folder} was begun with other code of {', '.join(changed)}; put that back"
            f"{way_out}"
        )


def python() -> str:
    """Major and minor version."""
    return ".".join(platform.python_version().split(".")[:2])
