"""What a method declares is the same with and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import algorithms
from algorithms import load
from algorithms.declared import declared

DECLARATIONS = """
import inspect, sys
from dataclasses import fields
from typing import get_type_hints
from algorithms import ALGORITHMS, presets_of
from algorithms.declared import declared

for name in ALGORITHMS:
    found = declared(name)
    print(name, found.__qualname__, found.Settings.__doc__)
    kinds = get_type_hints(found.Settings, include_extras=True)
    for field in fields(found.Settings):
        print(name, field.name, field.default, kinds[field.name])
    for base in found.Settings.__mro__[:-1]:
        print(inspect.getsource(base))
    for preset in ("smoke", "quick", "scaling", "published", "d2r"):
        for key, value in presets_of(found, preset).items():
            print(name, preset, key, [value(10), value(50)] if callable(value) else value)
print("torch" in sys.modules)
"""


def printed(start: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", start + DECLARATIONS],
        cwd=Path(algorithms.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_settings_and_presets_are_those_of_the_class_itself() -> None:
    without, itself = printed(), printed("import torch\n")
    assert (without.pop(), itself.pop()) == ("False", "True")
    assert without == itself


def test_where_torch_is_loaded_the_class_itself_is_found() -> None:
    assert declared("mega") is load("mega")


def test_a_file_that_computes_with_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "method.py").write_text(
        "import torch\nfrom algorithms.mtsac import MTSAC\n"
        "LEAST = -torch.inf\nclass Mine(MTSAC):\n    ROWS = LEAST\n"
    )
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import algorithms\nfrom algorithms.declared import declared\n"
        "algorithms.ALGORITHMS['mine'] = 'method:Mine'\n"
        "assert 'torch' not in sys.modules\n"
        "assert declared('mine') is algorithms.load('mine')\n"
    )
    root = Path(algorithms.__file__).parents[1]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True, timeout=60)
