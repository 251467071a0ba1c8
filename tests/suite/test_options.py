"""A configuration written as a command line is read back as itself."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms import ALGORITHMS
from suite import options
from suite.config import RunConfig
from suite.options import PARTS, command_line, parse
from suite.presets import PRESETS, preset

TASKS = ("MT10", "MT50", "MT1:reach-v3", "reach-v3,push-v3")


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(1, 8)
    if kind is float:
        return st.one_of(st.floats(1e-9, 1e9), st.just(float("inf")))
    return st.sampled_from(["a/b c", "results", "x=1"])


@st.composite
def configurations(draw: st.DrawFn) -> RunConfig:
    algorithm, tasks = draw(st.sampled_from(list(ALGORITHMS))), draw(st.sampled_from(TASKS))
    config = preset(draw(st.sampled_from(list(PRESETS))), algorithm, tasks)
    config = replace(config, seed=draw(st.integers(0, 9)))
    for part in (*PARTS, "settings"):
        before = getattr(config, part)
        hints = get_type_hints(type(before))
        names = [f.name for f in fields(before) if f.name != "tasks"]
        values = {
            name: draw(strategy(hints[name]))
            for name in draw(st.sets(st.sampled_from(names), max_size=3))
        }
        # Not the combinations that exclude each other.
        for name in ("modules", "first_stage", "task_loss_threshold", "update_order", "population"):
            values.pop(name, None)
        config = replace(config, **{part: replace(before, **values)})
    return config


@given(configurations())
def test_the_command_line_of_a_run_is_read_back_as_the_run(config: RunConfig) -> None:
    command = command_line(config)
    assert command[0] == "bench"
    assert parse(command[1:]) == config


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_line_is_as_short_as_a_person_would_write_it(name: str) -> None:
    config = replace(preset(name, "mtsac", "MT10"), seed=3)
    assert command_line(config) == [
        *("bench", "--alg", "mtsac", "--tasks", "MT10", "--preset", name, "--seed", "3")
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--alg", "mega", "--population", "3", "--evolution", "False", "--decoding", "softmax"],
        ["--alg", "d2r", "--seed", "7", "--reward-scale", "1e-1", "--goals", "random"],
        ["--alg", "mtsac", "--multi-head", "--max-log-temperature", "inf", "--preset", "scaling"],
    ],
)
def test_tyro_reads_the_same_run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = parse(arguments)
    monkeypatch.setattr(options, "filled", lambda *_: None)
    assert parse(arguments) == plain
