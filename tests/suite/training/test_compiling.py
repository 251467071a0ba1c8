"""What is compared before training is what trains."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from algorithms.d2r import D2R
from algorithms.mtsac import MTSAC
from suite.messages import UserError
from suite.presets import preset
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.training.build import build
from suite.training.compiling import (
    FEWEST_UPDATES,
    apart,
    compile_learners,
    compiled_parts,
    mode_of,
)
from suite.training.train import Trainer


@contextlib.contextmanager
def small(name: str, folder: Path, envs: int = 1, seeds: int = 1) -> Iterator[Trainer]:
    """A trainer whose episodes are short."""
    config = preset("smoke", name, "reach,push")
    config = replace(
        config,
        task=replace(config.task, horizon=6, envs_per_task=envs),
        training=replace(config.training, random_steps=6),
        evaluation=replace(config.evaluation, eval_episodes=1, final_episodes=1),
        execution=replace(config.execution, results=str(folder), workers=1),
    )
    configs = [replace(config, seed=seed) for seed in range(seeds)]
    trainer = build(configs, [RunDirectory(own) for own in configs], Progress("", 10**9))
    try:
        yield trainer
    finally:
        trainer.close()


def test_what_cpp_cannot_call_is_called_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[bool] = []

    def backend(graph: Any, _: Any) -> Any:
        tried.append(torch._inductor.config.cpp_wrapper)
        if tried[-1]:
            raise RuntimeError("an operator that has no such call")
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    with small("mtsac", tmp_path) as trainer:
        assert compile_learners(trainer, "compiled") == "compiled"
    assert tried[0] and not tried[-1]
    assert "without torch.compile" not in capsys.readouterr().err


def test_what_goes_to_the_replay_is_compared_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def decide(algorithm: D2R, *given: Any) -> Any:
        actions, extras = D2R.decide(algorithm, *given)
        return actions, {"route": extras["route"] ^ 1} if extras else extras

    def compile_wrongly(algorithm: D2R) -> None:
        wrong = functools.partial(decide, algorithm)
        wrong._torchdynamo_orig_callable = algorithm.decide  # type: ignore[attr-defined]
        algorithm.decide = wrong  # type: ignore[method-assign]

    monkeypatch.setattr(D2R, "compile", compile_wrongly)
    with small("d2r", tmp_path) as trainer:
        assert compile_learners(trainer, "compiled") == "eager"
    assert "its route differs" in capsys.readouterr().err


def test_a_compiled_step_that_gives_nan_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = MTSAC.learn

    def compile_wrongly(algorithm: MTSAC) -> None:
        def wrong(*given: Any) -> Any:
            metrics = learn(algorithm, *given)
            return {**metrics, "critic_loss": metrics["critic_loss"] * float("nan")}

        wrong._torchdynamo_orig_callable = algorithm.learn  # type: ignore[attr-defined]
        algorithm.learn = wrong  # type: ignore[method-assign]

    monkeypatch.setattr(MTSAC, "compile", compile_wrongly)
    with small("mtsac", tmp_path) as trainer:
        assert compile_learners(trainer, "compiled") == "eager"
    assert "its critic_loss differs by nan" in capsys.readouterr().err


def test_not_a_number_is_as_it_should_be_only_where_the_plain_lines_give_it() -> None:
    nan, two = torch.tensor([float("nan"), 2.0]), torch.tensor([1.0, 2.0])
    assert apart(nan, nan.clone()) == 0
    assert apart(nan, torch.tensor([float("nan"), 4.0])) == 0.5
    infinite = torch.tensor([float("inf"), 2.0])
    assert apart(infinite, infinite.clone()) == 0
    for mine, plain in ((nan, two), (two, nan), (infinite, two), (two, infinite)):
        assert math.isnan(apart(mine, plain))


class Shifted(MTSAC):
    """Rewards are moved by a Python number that differs by seed, and too little to be noticed."""

    def rewards(self, state: Any, batch: Any) -> Any:
        return super().rewards(state, batch) + 1e-4 * self.problem.seed


@pytest.mark.parametrize(("name", "shared"), [("mtsac", True), (f"{__name__}:Shifted", False)])
def test_seeds_of_a_strangers_method_do_not_share_what_is_compiled(
    name: str, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(function: Any, **_: Any) -> Any:
        wrapped = functools.partial(function)
        wrapped._torchdynamo_orig_callable = function  # type: ignore[attr-defined]
        return wrapped

    monkeypatch.setattr(torch, "compile", compiled)
    with small(name, tmp_path, seeds=2) as trainer:
        assert compile_learners(trainer, "compiled") == "compiled"
        first, second = (compiled_parts(run.algorithm) for run in trainer.runs)
        assert first.keys() == second.keys() == {"learn", "decide"}
        assert (first == second) == shared


@pytest.mark.parametrize("envs", [2, 3])
def test_several_envs_of_a_task_act_as_many_as_they_are(
    envs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each env of MEGA has an individual of its own: no other number of rows can act.
    eager = functools.partial(torch.compile, backend=lambda graph, _: graph.forward)
    monkeypatch.setattr(torch, "compile", eager)
    with small("mega", tmp_path, envs) as trainer:
        assert compile_learners(trainer, "compiled") == "compiled"


@pytest.mark.parametrize("name", ["mtsac", "d2r"])
def test_nothing_is_compiled_once_training_has_begun(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for other shapes or strides either: such a program would not have been compared."""
    made: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        made.append(graph)
        return graph.forward

    compiled = functools.partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, "compile", compiled)
    with small(name, tmp_path) as trainer:
        assert compile_learners(trainer, "compiled") == "compiled"
        compared = len(made)
        assert compared >= 3, "exploring, evaluating and the gradient step"
        for _ in range(3):
            trainer.train_round()
        trainer.evaluate()
        assert trainer.runs[0].updates > 6
        assert len(made) == compared


@pytest.mark.parametrize(
    ("choice", "updates", "began", "expected"),
    [
        ("auto", FEWEST_UPDATES - 500, None, "eager"),
        ("auto", FEWEST_UPDATES, None, "compiled"),
        ("auto", FEWEST_UPDATES, "eager", "eager"),
        ("auto", FEWEST_UPDATES - 500, "compiled", "compiled"),
        ("on", FEWEST_UPDATES - 500, None, "compiled"),
        ("off", FEWEST_UPDATES, None, "eager"),
        ("on", FEWEST_UPDATES, "eager", "this run began eager, and on .* or give off"),
        ("off", FEWEST_UPDATES, "compiled", "this run began compiled, and off .* or give on"),
    ],
)
def test_a_run_keeps_the_mode_that_it_began_with_and_short_ones_are_plain(
    choice: str, updates: int, began: str | None, expected: str
) -> None:
    config = preset("smoke", "mtsac", "reach")
    config = replace(
        config,
        task=replace(config.task, horizon=500),
        training=replace(config.training, steps=updates, update_every=1, updates_per_step=1),
        execution=replace(config.execution, compile=choice),
    )
    if expected in ("eager", "compiled"):
        assert mode_of(config, began) == expected
    else:
        with pytest.raises(UserError, match=expected):
            mode_of(config, began)


def test_without_a_compiler_there_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with small("mtsac", tmp_path) as trainer:
        long = replace(trainer.config, training=replace(trainer.config.training, steps=10**6))
        assert compile_learners(trainer, mode_of(long, None)) == "eager"
        trainer.runs[0].config = replace(
            trainer.config, execution=replace(trainer.config.execution, compile="on")
        )
        with pytest.raises(UserError, match="cannot be compiled: there is no C"):
            compile_learners(trainer, "compiled")
    line = "warning: mtsac runs without torch.compile, and slower: there is no C++ compiler (g++)\n"
    assert capsys.readouterr().err == line
