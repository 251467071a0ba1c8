"""The directions that imports may take, and that every room is part of the installed package."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("algorithms", "suite", "analysis")
ROW_SCHEMA = "suite.runs.rows"
"""The one module of the suite that the analysis may read."""


def modules(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, Path]:
    """Every module's file by its dotted name; a package stands for its __init__."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, those in functions too, but what only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield from executed(other)
        else:
            yield from executed(child)


def named(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; `importlib.import_module("…")` counts as an import."""
    for node in executed(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                assert node.level == 0 and node.module, f"{path}: imports are absolute here"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(node.func).endswith("import_module"):
                    yield name


def imports(files: dict[str, Path]) -> dict[str, set[str]]:
    """The modules among `files` that each of them imports, itself left out.

    A function imports itself from its own module where it is sent to another process.
    """
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for name in named(path):
            # `from package.module import function` names the module's attribute.
            found = name if name in files else name.rpartition(".")[0]
            if found in files and found != module:
                graph[module].add(found)
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def strangers(graph: dict[str, set[str]], package: str, allowed: tuple[str, ...]) -> list[str]:
    """Arrows from `package` to one that it may not know."""
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if module.split(".")[0] == package
        and other.split(".")[0] != package
        and other not in allowed
    ]


def test_imports_between_packages_go_one_way():
    graph = imports(modules(ROOT))
    assert strangers(graph, "algorithms", ()) == []
    # No row says what a method's defaults are, without which a name would have to say everything.
    assert strangers(graph, "analysis", (ROW_SCHEMA, "algorithms", "algorithms.declared")) == []
    of_suite = strangers(graph, "suite", ())
    assert of_suite and all(" imports algorithms" in arrow for arrow in of_suite)


def test_an_arrow_to_another_package_is_found():
    assert strangers({"a.x": {"b.y", "a.z"}}, "a", ()) == ["a.x imports b.y"]
    assert strangers({"a.x": {"b.y"}}, "a", ("b.y",)) == []


def test_no_module_imports_itself_in_a_circle():
    graph = imports(modules(ROOT))
    assert circle(graph) == []


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    there = {name for name, path in modules(ROOT).items() if path.name == "__init__.py"}
    assert set(project["tool"]["setuptools"]["packages"]) == there
    # A folder of code without __init__ would be left out without a word.
    rooms = {path.parent for path in modules(ROOT).values()}
    assert [room for room in rooms if not (room / "__init__.py").exists()] == []


def written(root: Path, **texts: str) -> dict[str, Path]:
    """A package `house` with these modules."""
    (root / "house").mkdir()
    for name, text in {"__init__": "", **texts}.items():
        (root / "house" / f"{name}.py").write_text(text)
    return modules(root, ("house",))


def test_an_import_in_a_function_closes_a_circle(tmp_path: Path):
    hidden = "def later():\n    from house.first import one\n"
    files = written(tmp_path, first="import house.second\none = 1\n", second=hidden)
    assert set(circle(imports(files))) == {"house.first", "house.second"}


def test_an_import_by_name_closes_a_circle(tmp_path: Path):
    hidden = "import importlib\n\n\ndef later():\n    importlib.import_module('house.first')\n"
    files = written(tmp_path, first="from house import second\n", second=hidden)
    assert set(circle(imports(files))) == {"house.first", "house.second"}


def test_an_import_for_types_closes_none(tmp_path: Path):
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.first import One\n"
    files = written(tmp_path, first="import house.second\nclass One: ...\n", second=types)
    assert imports(files) == {
        "house": set(),
        "house.first": {"house.second"},
        "house.second": set(),
    }
