"""The training loop, on envs and an algorithm that write down what happens to them."""

from __future__ import annotations

import io
import itertools
import json
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from algorithms.algorithm import (
    Algorithm,
    Batch,
    Decision,
    NetworkProbe,
    Outcomes,
    ParameterCounts,
)
from suite.config import EvaluationConfig, ExecutionConfig, RunConfig, TaskConfig, TrainingConfig
from suite.envs import EVALUATION_ENVS
from suite.envs.tasks import Goals
from suite.envs.vector import StepResult
from suite.interrupt import Interrupted
from suite.messages import Failure
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.runs.rows import RowLog
from suite.training.metrics import TrainingDiverged
from suite.training.replay import Replay
from suite.training.train import SeedRun, Trainer

CPU = torch.device("cpu")
HORIZON = 6
POLICY_ACTION, MODE_ACTION = 0.5, -0.25


@dataclass(frozen=True)
class Settings:
    """No settings."""


class WritingEnvs:
    """Envs whose observations say which episode, step and env they are of."""

    def __init__(self, envs: int, diary: list[Any]) -> None:
        self.envs, self.diary = envs, diary
        self.parts = [np.arange(envs)]
        self.labels = [f"task {index * 2 // envs}" for index in range(envs)]
        self.episodes, self.step = -1, 0
        self.observations = np.zeros((envs, 39), np.float32)

    def write(self) -> np.ndarray:
        # Shared memory is overwritten in place: whoever keeps a view sees it change.
        self.observations[:, 0] = self.episodes
        self.observations[:, 1] = self.step
        self.observations[:, 2] = np.arange(self.envs)
        return self.observations

    def reset(self, goals: list[Any]) -> np.ndarray:
        assert len(goals) == self.envs
        self.episodes, self.step = self.episodes + 1, 0
        self.diary.append("reset")
        return self.write()

    def send(self, actions: np.ndarray, part: int = 0) -> None:
        assert actions.shape == (self.envs, 4)
        self.actions = actions.copy()
        self.diary.append("send")

    def receive(self) -> StepResult:
        self.step += 1
        self.diary.append("receive")
        rewards = np.arange(self.envs) + self.step / 10
        # Env 1 succeeds in its third step and falls back.
        successes = np.zeros(self.envs)
        successes[1:2] = self.step == 3
        return StepResult(self.write(), rewards, successes)


class WritingAlgorithm(Algorithm):
    """Learns nothing and keeps everything that it is given."""

    Settings = Settings
    extras = {"mark": ((), torch.float32)}  # noqa: RUF012

    def __init__(self, diary: list[Any]) -> None:
        self.diary = diary
        self.batches: list[Batch] = []
        self.outcomes: list[Outcomes] = []
        self.acted = 0
        self.nan_at_act = self.nan_at_update = -1

    def act(self, observations: Tensor, explore: bool) -> Decision:
        value = POLICY_ACTION if explore else MODE_ACTION
        actions = torch.full((*observations.shape[:2], 4), value)
        if explore:
            if self.acted == self.nan_at_act:
                actions[1, 0, 2] = math.nan
            self.acted += 1
        return Decision(actions, {"mark": observations[..., 1] * 2})

    def update(self, batch: Batch) -> dict[str, Tensor]:
        self.diary.append("update")
        self.batches.append(batch)
        loss = torch.ones(len(batch.rewards))
        if len(self.batches) - 1 == self.nan_at_update:
            loss[1] = math.nan
        return {"critic_loss": loss}

    def probe(self, batch: Batch, seed: int) -> dict[str, NetworkProbe]:
        return {"actor": NetworkProbe({"1": torch.eye(4)}, {"w": torch.ones(1)}, {})}

    def report(self, batch: Batch) -> dict[str, list[float]]:
        return {"stage": [3.0, math.nan]}

    def end_random_episodes(self, outcomes: Outcomes) -> None:
        self.diary.append("end_random_episodes")

    def end_episodes(self, outcomes: Outcomes) -> None:
        self.diary.append("end_episodes")
        self.outcomes.append(outcomes)

    def parameter_counts(self) -> ParameterCounts:
        return ParameterCounts(1, 2)

    def state_dict(self) -> dict[str, Any]:
        return {"acted": self.acted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.acted = state["acted"]


Make = Callable[..., Trainer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A trainer of two tasks and `rounds` episodes, without processes, physics or learning."""

    def trainer(
        rounds: int = 4,
        envs: int = 1,
        training: dict[str, Any] | None = None,
        evaluation: EvaluationConfig | None = None,
        checkpoint_minutes: float = 1000,
        seed: int = 0,
        folder: str = "run",
    ) -> Trainer:
        fields = {"batch_per_task": 5, "buffer_per_task": 1000, "random_steps": 8}
        config = RunConfig(
            "own:Writing",
            Settings(),
            seed=seed,
            task=TaskConfig("reach,push", "random", horizon=HORIZON, envs_per_task=envs),
            training=TrainingConfig(
                steps=rounds * 2 * envs * HORIZON, **(fields | (training or {}))
            ),
            evaluation=evaluation or EvaluationConfig(1, eval_episodes=2, final_episodes=7),
            execution=ExecutionConfig(
                run_dir=str(tmp_path / folder), checkpoint_minutes=checkpoint_minutes
            ),
        )
        directory = RunDirectory(config)
        directory.open()
        (directory.path / "rows").mkdir(exist_ok=True)
        diary: list[Any] = []
        algorithm = WritingAlgorithm(diary)
        generator = torch.Generator().manual_seed(seed)
        capacity = config.training.buffer_per_task
        goals = Goals("reach,push", "random", seed, 0, "fast")
        replay = Replay(2, capacity, algorithm.extras, CPU, generator)
        probe = Batch(*[torch.zeros(2, 1)] * 5, {})
        run = SeedRun(config, directory, goals, RowLog(config.tasks), algorithm, replay, probe)
        return Trainer(
            [run],
            WritingEnvs(2 * envs, diary),  # type: ignore[arg-type]
            WritingEnvs(2 * EVALUATION_ENVS, []),  # type: ignore[arg-type]
            Progress("test", 1),
        )

    return trainer


def written(trainer: Trainer) -> Any:
    return trainer.runs[0].algorithm


def stored(trainer: Trainer) -> dict[str, Tensor]:
    """The replay's rows in the order of adding, by their parts."""
    rows = trainer.runs[0].replay.rows[:, : trainer.runs[0].replay.written]
    return {
        "observation": rows[..., :39],
        "action": rows[..., 39:43],
        "reward": rows[..., 43],
        "timeout": rows[..., 44],
        "next": rows[..., 45:],
    }


# What is stored ------------------------------------------------------------------------------


def test_the_replay_holds_the_true_successor_also_where_the_time_limit_cuts(make: Make) -> None:
    trainer = make(rounds=2)
    trainer.train_round()
    trainer.train_round()
    rows = stored(trainer)
    for episode in range(2):
        window = slice(episode * HORIZON, (episode + 1) * HORIZON)
        for task in range(2):
            before, after = rows["observation"][task, window], rows["next"][task, window]
            assert before[:, 0].tolist() == after[:, 0].tolist() == [episode] * HORIZON
            assert before[:, 1].tolist() == list(range(HORIZON))
            # The last successor is step 6 of this episode, not the first of the next.
            assert after[:, 1].tolist() == list(range(1, HORIZON + 1))
            assert set(before[:, 2].tolist()) == set(after[:, 2].tolist()) == {task}


def test_only_the_last_step_of_an_episode_is_marked_as_cut_by_the_time_limit(make: Make) -> None:
    trainer = make(rounds=2)
    trainer.train_round()
    trainer.train_round()
    expected = ([0.0] * (HORIZON - 1) + [1.0]) * 2
    assert stored(trainer)["timeout"].tolist() == [expected, expected]


def test_rewards_and_extras_are_those_of_the_step(make: Make) -> None:
    trainer = make()
    trainer.train_round()
    steps = torch.arange(HORIZON)
    for task in range(2):
        torch.testing.assert_close(stored(trainer)["reward"][task], task + (steps + 1) / 10)
        assert torch.equal(trainer.runs[0].replay.extras["mark"][task, :HORIZON], steps * 2.0)


def test_several_envs_of_a_task_stay_with_their_task(make: Make) -> None:
    trainer = make(envs=3)
    trainer.train_round()
    seen = stored(trainer)["observation"][..., 2]
    assert seen[0].tolist() == [0, 1, 2] * HORIZON
    assert seen[1].tolist() == [3, 4, 5] * HORIZON


# What is learned from, and when --------------------------------------------------------------


@pytest.mark.parametrize("envs", [1, 2])
def test_the_first_steps_are_uniformly_random_without_learning(make: Make, envs: int) -> None:
    random_steps = 8 * envs
    trainer = make(rounds=3, envs=envs, training={"random_steps": random_steps})
    for _ in range(3):
        trainer.train_round()
    actions = stored(trainer)["action"]
    first, rest = actions[:, :random_steps], actions[:, random_steps:]
    assert (rest == POLICY_ACTION).all()
    assert (first != POLICY_ACTION).all()
    assert first.abs().max() <= 1
    assert len(first.unique()) == first.numel()
    # One gradient step a lockstep after them: 8 of 18 locksteps are random.
    assert len(written(trainer).batches) == trainer.runs[0].updates == 3 * HORIZON - 8


def test_random_actions_depend_on_the_seed_alone(make: Make) -> None:
    drawn = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer = make(seed=seed, folder=folder, training={"random_steps": 100})
        trainer.train_round()
        drawn.append(stored(trainer)["action"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_without_random_steps_it_learns_from_the_first_transition_on(make: Make) -> None:
    trainer = make(training={"random_steps": 0})
    trainer.train_round()
    assert (stored(trainer)["action"] == POLICY_ACTION).all()
    assert trainer.runs[0].updates >= HORIZON - 1


@pytest.mark.parametrize(("every", "updates"), [(1, 6), (2, 3), (3, 2), (5, 2)])
def test_update_every_spaces_gradient_steps(make: Make, every: int, updates: int) -> None:
    trainer = make(training={"random_steps": HORIZON, "update_every": every})
    trainer.train_round()
    assert trainer.runs[0].updates == 0
    trainer.train_round()
    assert trainer.runs[0].updates == updates


def test_envs_step_while_the_learner_works_on_what_came_before(make: Make) -> None:
    trainer = make(training={"random_steps": HORIZON})
    trainer.train_round()
    trainer.runs[0].algorithm.diary.clear()  # type: ignore[attr-defined]
    trainer.train_round()
    lockstep = ["send", "update", "receive"]
    assert written(trainer).diary == ["reset", *lockstep * HORIZON]
    # The first batch of the round knows nothing of the step that runs beside it.
    newest = [float(batch.observations[..., 0].max()) for batch in written(trainer).batches]
    assert newest[0] == 0


def test_batches_have_the_same_number_of_transitions_of_every_task(make: Make) -> None:
    trainer = make(training={"random_steps": HORIZON})
    trainer.train_round()
    trainer.train_round()
    for batch in written(trainer).batches:
        assert batch.observations.shape == (2, 5, 39)
        assert (batch.observations[0, :, 2] == 0).all()
        assert (batch.observations[1, :, 2] == 1).all()


def test_the_algorithm_hears_returns_and_success_at_any_step(make: Make) -> None:
    trainer = make(training={"random_steps": HORIZON})
    trainer.train_round()
    assert not trainer.learned_in(0), "random actions are no deed of the algorithm"
    (outcome,) = trainer.train_round()
    assert trainer.learned_in(1)
    total = sum(step / 10 for step in range(1, HORIZON + 1))
    torch.testing.assert_close(
        outcome.returns, torch.tensor([[total], [total + HORIZON]], dtype=torch.float64)
    )
    assert outcome.successes.tolist() == [[0.0], [1.0]]
    each = torch.arange(1, HORIZON + 1) / 10
    torch.testing.assert_close(outcome.rewards, torch.stack([each, each + 1])[:, None])
    # Of what lies in the replay, which is far from full.
    expected = torch.tensor([0.35, 1.35], dtype=torch.float64)
    torch.testing.assert_close(outcome.mean_rewards, expected)


def test_the_algorithm_is_told_random_episodes_from_its_own(make: Make) -> None:
    trainer = make(rounds=5, training={"random_steps": HORIZON + 1})  # the second one is mixed
    trainer.run()
    heard = [entry for entry in written(trainer).diary if str(entry).startswith("end_")]
    assert heard == [*["end_random_episodes"] * 2, *["end_episodes"] * 2], "none after the last"


def test_an_evaluation_sees_what_has_been_trained_and_not_what_is_bred_after_it(make: Make) -> None:
    trainer = make(3, training={"random_steps": HORIZON}, evaluation=EvaluationConfig(3, 1, 1))
    own = written(trainer)
    real = own.report

    def report(batch: Batch) -> dict[str, list[float]]:
        own.diary.append("report")
        found: dict[str, list[float]] = real(batch)
        return found

    own.report = report
    trainer.run()
    heard = [entry for entry in own.diary if entry == "report" or str(entry).startswith("end_")]
    assert heard == ["report", "end_random_episodes", "report", "end_episodes", "report"]


# Evaluation, rows and checkpoints ------------------------------------------------------------


def values(trainer: Trainer, metric: str) -> list[tuple[int, float]]:
    """(env step, value) of a metric in the row files, in order."""
    rows = []
    for part in sorted((trainer.runs[0].directory.path / "rows").iterdir()):
        rows += pq.read_table(io.BytesIO(part.read_bytes())).to_pylist()
    return [(row["env_step"], row["value"]) for row in rows if row["metric"] == metric]


def test_training_metrics_may_be_written_in_some_rounds_only(make: Make) -> None:
    trainer = make(7, evaluation=EvaluationConfig(1, 1, 1, metrics_every=3))
    trainer.run()
    third = 3 * 2 * HORIZON
    for metric in ("train/return", "train/critic_loss"):
        assert [at for at, _ in values(trainer, metric)] == [third, third, 2 * third, 2 * third]
    assert trainer.runs[0].updates == 7 * HORIZON - 8, "all of them are made"


@pytest.mark.parametrize(
    ("rounds", "evaluations", "expected"),
    [(4, 2, [2, 4]), (4, 4, [1, 2, 3, 4]), (5, 2, [3, 5]), (3, 10, [1, 2, 3]), (7, 1, [7])],
)
def test_evaluations_are_evenly_spaced_and_the_last_is_at_the_end(
    make: Make, rounds: int, evaluations: int, expected: list[int]
) -> None:
    trainer = make(rounds, evaluation=EvaluationConfig(evaluations, 1, 1))
    trainer.run()
    steps = [step for step, _ in values(trainer, "success/mean")]
    assert steps == [round_ * 2 * HORIZON for round_ in expected]


def test_the_last_evaluation_has_its_own_number_of_episodes(make: Make) -> None:
    trainer = make(2, evaluation=EvaluationConfig(2, eval_episodes=2, final_episodes=7))
    trainer.run()
    # 2 episodes fit into the 5 evaluation envs at once, 7 need two goes.
    evaluation_envs: Any = trainer.evaluation_envs
    assert evaluation_envs.episodes + 1 == 1 + 2
    assert (evaluation_envs.actions == MODE_ACTION).all()


def test_a_run_writes_returns_success_losses_plasticity_and_reports(make: Make) -> None:
    trainer = make(3)
    trainer.run()
    total = sum(step / 10 for step in range(1, HORIZON + 1))
    assert [value for _, value in values(trainer, "train/return")] == pytest.approx(
        [total, total + HORIZON] * 3
    )
    assert [value for _, value in values(trainer, "train/success")] == [0, 1] * 3
    # No learning in the first round of 6 steps (8 are random), so no loss.
    assert [step for step, _ in values(trainer, "train/critic_loss")] == [24, 24, 36, 36]
    assert values(trainer, "plasticity/actor/srank/1") == [(36, 4.0)]
    assert values(trainer, "stage") == [(36, 3.0)]  # NaN: the other task has none
    assert len(values(trainer, "success")) == len(values(trainer, "return")) == 2


def test_checkpoints_are_due_by_time_and_at_the_end(make: Make) -> None:
    often = make(4, checkpoint_minutes=0)
    often.run()
    timing = often.runs[0].directory.path / "timing.jsonl"
    assert len(timing.read_text().splitlines()) == 4
    state = often.runs[0].directory.checkpoints.load()
    assert state is not None
    assert state.state["round"] == 4
    assert state.state["updates"] == often.runs[0].updates


def test_checkpoints_are_minutes_apart(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 40)  # seconds, one tick each time that it is read
    monkeypatch.setattr("suite.training.train.time", SimpleNamespace(monotonic=lambda: next(clock)))
    trainer = make(6, checkpoint_minutes=1)
    trainer.run()
    lines = (trainer.runs[0].directory.path / "timing.jsonl").read_text().splitlines()
    # Read before the first round, after each, and when one has been saved.
    assert [json.loads(line)["env_step"] for line in lines] == [24, 48, 72]


def test_a_long_run_between_checkpoints_saves_once_at_its_end(make: Make) -> None:
    rare = make(4, checkpoint_minutes=1000)
    rare.run()
    assert len(list(rare.runs[0].directory.checkpoints.folder.glob("manifest-*"))) == 1


def test_a_run_whose_directory_was_moved_writes_nothing_into_the_one_that_took_its_place(
    make: Make,
) -> None:
    forgotten = make(4)
    forgotten.train_round()
    folder = forgotten.runs[0].directory.path
    folder.rename(folder.with_name("moved"))
    with pytest.raises(Failure, match="was moved or deleted while this run went on"):
        forgotten.save()
    other = make(4)
    other.train_round()
    before = {path: path.stat() for path in folder.rglob("*")}
    for work in (forgotten.save, lambda: forgotten.runs[0].directory.finish(ParameterCounts(1, 2))):
        with pytest.raises(Failure, match="was moved or deleted while this run went on"):
            work()
    assert {path: path.stat() for path in folder.rglob("*")} == before
    other.save()


def test_a_restored_trainer_stands_where_the_saved_one_stood(make: Make) -> None:
    first = make(4)
    for _ in range(2):
        first.train_round()
    first.save()
    first.runs[0].directory.close()
    second = make(4)
    assert second.restore() == []
    assert (second.round, second.runs[0].updates, second.env_step) == (
        2,
        first.runs[0].updates,
        4 * HORIZON,
    )
    assert torch.equal(second.runs[0].replay.rows, first.runs[0].replay.rows)
    for trainer in (first, second):
        trainer.train_round()
    # Sampling goes on with the generator where it was.
    assert torch.equal(
        written(first).batches[-1].observations[..., 1:],
        written(second).batches[-1].observations[..., 1:],
    )


def test_an_interrupt_ends_the_run_after_the_episode_with_a_checkpoint(make: Make) -> None:
    trainer = make(50)
    real = trainer.runs[0].algorithm.end_episodes

    def interrupted(outcomes: Outcomes) -> None:
        real(outcomes)
        if trainer.round == 3:
            signal.raise_signal(signal.SIGTERM)

    trainer.runs[0].algorithm.end_episodes = interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=f"^saved at env step {3 * 2 * HORIZON}$"):
        trainer.run()
    loaded = trainer.runs[0].directory.checkpoints.load()
    assert loaded is not None
    assert loaded.state["round"] == 3


def test_an_interrupt_in_the_last_episode_finishes_the_run(make: Make) -> None:
    trainer = make(1)
    real = trainer.evaluate

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        real()

    trainer.evaluate = interrupted  # type: ignore[method-assign]
    trainer.run()
    assert trainer.interrupt.requested
    assert trainer.runs[0].directory.checkpoints.rounds() == [1]


# Not a number --------------------------------------------------------------------------------


def test_a_nan_action_stops_before_it_reaches_an_env(make: Make) -> None:
    trainer = make(training={"random_steps": HORIZON})
    trainer.train_round()
    written(trainer).nan_at_act = HORIZON + 2
    sent = written(trainer).diary.count("send")
    with pytest.raises(TrainingDiverged, match=r"^action of push-v3 .* env step 16;"):
        trainer.train_round()
    assert written(trainer).diary.count("send") == sent + 2


def test_a_nan_loss_is_named_before_the_nan_action_that_it_causes(make: Make) -> None:
    trainer = make(training={"random_steps": HORIZON})
    trainer.train_round()
    written(trainer).nan_at_update, written(trainer).nan_at_act = 3, HORIZON + 4
    with pytest.raises(TrainingDiverged, match=r"^critic_loss of push-v3 .* env step 18 "):
        trainer.train_round()


def test_a_nan_loss_is_noticed_before_the_round_is_saved_or_evaluated(make: Make) -> None:
    trainer = make(5, training={"random_steps": HORIZON}, checkpoint_minutes=0)
    written(trainer).nan_at_update = 2 * HORIZON + 1
    with pytest.raises(TrainingDiverged):
        trainer.run()
    loaded = trainer.runs[0].directory.checkpoints.load()
    assert loaded is not None
    # Rounds are counted from 1: no learning in the first, and the fourth goes wrong.
    assert loaded.state["round"] == 3


def test_weights_that_the_last_step_broke_are_never_saved(make: Make) -> None:
    trainer = make(3, checkpoint_minutes=0)
    own = written(trainer)
    real = own.state_dict
    own.state_dict = lambda: {
        **real(),
        "w": [torch.tensor(math.nan if own.acted > HORIZON else 0.0)],
    }
    with pytest.raises(TrainingDiverged, match=r"algorithm/w/0 .* env step 24"):
        trainer.run()
    assert trainer.runs[0].directory.checkpoints.rounds() == [1]


def test_a_nan_action_in_evaluation_is_an_error_and_not_a_failure_of_the_task(make: Make) -> None:
    # The last gradient step of a round can break the weights without a sign in its metrics.
    trainer = make(1)
    trainer.runs[0].algorithm.act = (
        lambda observations, explore: Decision(  # type: ignore[method-assign]
            torch.full((*observations.shape[:2], 4), 0.5 if explore else math.nan),
            {"mark": observations[..., 1]},
        )
    )
    step = 2 * HORIZON
    expected = f"^action of task 0 is nan or infinite in an evaluation at env step {step}$"
    with pytest.raises(TrainingDiverged, match=expected):
        trainer.run()
