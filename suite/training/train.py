"""The training loop, on one page.

Time is counted in rounds: one episode of every env, in lockstep. Everything that is saved, measured
or interrupted happens between rounds, where an env has no state but its next goal; that is why a
run resumes to the bit. Within a round the envs step while the learner updates on data up to the
step before, always in that order, so that timing cannot change a result.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from algorithms.algorithm import Algorithm, Batch, Outcomes
from suite.config import RunConfig
from suite.envs import ACTION_SIZE, OBSERVATION_SIZE
from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv
from suite.interrupt import Interrupt, Interrupted
from suite.messages import UserError
from suite.randomness import stream
from suite.runs.checkpoint import Loaded
from suite.runs.directory import RunDirectory
from suite.runs.progress import Progress
from suite.runs.rows import RowLog
from suite.training.evaluate import Evaluation, evaluate
from suite.training.learner import Learner, on_host, to_device, to_host
from suite.training.metrics import UpdateMetrics, all_finite, check_state
from suite.training.plasticity import measure
from suite.training.replay import Replay

EVALUATION_ENVS = 5
"""Envs a task in evaluation."""


@dataclass
class SeedRun:
    """What a run has for itself, also where it is trained together with its other seeds."""

    config: RunConfig
    directory: RunDirectory
    goals: Goals
    log: RowLog


@dataclass
class Trainer:
    """The parts of a run, wired; or of several that differ in their seeds alone.

    Then the task axis holds all tasks of the first seed, all of the second and so on.
    """

    runs: Sequence[SeedRun]
    algorithm: Algorithm
    replay: Replay
    envs: VectorEnv
    evaluation_envs: VectorEnv
    probe: Batch
    progress: Progress
    round: int = 0
    """Rounds done."""
    updates: int = 0
    """Gradient steps done."""

    def __post_init__(self) -> None:
        batch = self.config.training.batch_per_task
        self.learner = Learner(self.algorithm, self.replay, batch)

    @property
    def config(self) -> RunConfig:
        """The configuration, but for the seed, of every run."""
        return self.runs[0].config

    @property
    def seeds(self) -> list[int]:
        """The seed of each run."""
        return [run.config.seed for run in self.runs]

    @property
    def env_step(self) -> int:
        """Environment steps done, over all tasks, by each run."""
        return self.round * self.config.steps_per_round

    def run(self) -> list[Evaluation]:
        """Trains to the end and returns the last evaluation of each run."""
        c = self.config
        evaluations: list[Evaluation] = []
        with Interrupt() as interrupt:
            saved = time.monotonic()
            while self.round < c.rounds:
                outcomes = self.train_round()
                if self.due():
                    evaluations = self.evaluate()
                # After the evaluation, which must see what has been trained and not, say, a
                # genotype that is bred only now; and never after the last one.
                if outcomes is not None and self.round < c.rounds:
                    self.algorithm.end_episodes(outcomes)
                minutes = (time.monotonic() - saved) / 60
                last = self.round == c.rounds
                if last or interrupt.requested or minutes >= c.execution.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
                if interrupt.requested and not last:
                    raise Interrupted(self.env_step)
        return evaluations or self.evaluate()

    def train_round(self) -> Outcomes | None:
        """One episode of every env, with a gradient step per lockstep once there is data.

        Returns how the episodes went, or None where random actions had a part in them.
        """
        c = self.config
        tasks, envs = len(c.tasks) * len(self.runs), c.task.envs_per_task
        device = self.replay.rows.device
        metrics = UpdateMetrics(c.tasks, self.seeds)
        returns, successes = np.zeros(tasks * envs), np.zeros(tasks * envs)
        random_actions = [stream(seed, "random actions", self.round) for seed in self.seeds]
        self.progress.start_round()

        self.envs.episode = f"the episode from env step {self.env_step:,} on"
        goals = [goal for run in self.runs for goal in run.goals.training(self.round, envs)]
        observations = as_batch(self.envs.reset(goals), tasks, envs, device)
        for step in range(c.task.horizon):
            seen = (self.round * c.task.horizon + step) * envs
            learning = seen >= c.training.random_steps and self.replay.size > 0
            decision = self.learner.act(to_device(observations, device))
            sent = to_host(decision.actions)
            if seen < c.training.random_steps:
                size = (len(c.tasks), envs, ACTION_SIZE)
                drawn = [own.uniform(-1, 1, size) for own in random_actions]
                sent = np.concatenate(drawn).astype(np.float32)
            if not np.isfinite(sent).all():
                metrics.check(self.env_step, len(c.tasks) * envs, self.updates)
                at = self.env_step + step * len(c.tasks) * envs
                all_finite("action", sent.reshape(tasks, -1), metrics.tasks, at)
            self.envs.send(sent.reshape(-1, ACTION_SIZE))
            if learning and step % c.training.update_every == 0:
                metrics.add(step, self.learner.learn())
            following, rewards, succeeded = self.envs.receive()
            next_observations = as_batch(following, tasks, envs, device)
            self.replay.add(
                observations,
                torch.from_numpy(sent),
                torch.from_numpy(rewards).float().view(tasks, envs),
                next_observations,
                step == c.task.horizon - 1,
                decision.extras,
            )
            returns += rewards
            successes = np.maximum(successes, succeeded)
            observations = next_observations
            self.progress.step(len(c.tasks) * envs)

        metrics.check(self.env_step, len(c.tasks) * envs, self.updates)
        self.round += 1
        self.updates += metrics.count
        shape = (tasks, envs)
        outcomes = Outcomes(
            torch.from_numpy(returns.reshape(shape)), torch.from_numpy(successes.reshape(shape))
        )
        self.log_per_task("train/return", outcomes.returns.mean(1).tolist())
        self.log_per_task("train/success", outcomes.successes.mean(1).tolist())
        metrics.write([run.log for run in self.runs], self.env_step, self.updates)
        self.progress.end_round(self.env_step, float(successes.mean()))
        for seed, state in zip(self.seeds, self.algorithm.state_by_seed(), strict=True):
            of_seed = f" of seed {seed}" if len(self.runs) > 1 else ""
            check_state(state, self.env_step, f"algorithm{of_seed}")
        own = (self.round - 1) * c.task.horizon * envs >= c.training.random_steps
        return outcomes if own else None

    def due(self) -> bool:
        """Whether an evaluation falls on the end of the round that has just ended."""
        n, total = self.config.evaluation.evaluations, self.config.rounds
        return self.round * n // total > (self.round - 1) * n // total

    def log_per_task(self, metric: str, values: Sequence[float]) -> None:
        """Logs one value a place of the task axis, to each run its own."""
        tasks = len(self.config.tasks)
        for index, run in enumerate(self.runs):
            own = values[index * tasks : (index + 1) * tasks]
            run.log.per_task(metric, self.env_step, self.updates, own)

    def evaluate(self) -> list[Evaluation]:
        """Success and returns on the evaluation goals; plasticity; the algorithm's own report."""
        c, step = self.config, self.env_step
        final = self.round == c.rounds
        episodes = c.evaluation.final_episodes if final else c.evaluation.eval_episodes
        self.progress.note("evaluating")
        self.evaluation_envs.episode = f"an evaluation at env step {step:,}"
        whole = evaluate(
            self.algorithm,
            self.evaluation_envs,
            [goals for run in self.runs for goals in run.goals.evaluation(episodes)],
            c.task.horizon,
            self.replay.rows.device,
        )
        self.log_per_task("success", whole.success_rates().tolist())
        self.log_per_task("return", whole.returns.mean(1).tolist())
        results = [
            Evaluation(*own)
            for own in zip(*(np.split(part, len(self.runs)) for part in whole), strict=True)
        ]
        probes = self.algorithm.probe_by_seed(self.probe, seed=0)
        for run, result, networks in zip(self.runs, results, probes, strict=True):
            run.log.whole("success/mean", step, self.updates, float(result.successes.mean()))
            for network, probe in networks.items():
                for metric, value in measure(probe).items():
                    run.log.whole(f"plasticity/{network}/{metric}", step, self.updates, value)
        for metric, values in self.algorithm.report(self.probe).items():
            self.log_per_task(metric, values)
        self.progress.evaluated(step, [float(result.successes.mean()) for result in results])
        return results

    def save(self) -> None:
        """Writes a checkpoint of the end of this round for each run, as if it were alone."""
        states = self.algorithm.state_by_seed()
        for index, (run, algorithm) in enumerate(zip(self.runs, states, strict=True)):
            state = {
                "round": self.round,
                "updates": self.updates,
                "algorithm": algorithm,
                "replay": self.replay.state_dict(index),
            }
            store = run.directory.checkpoints
            run.directory.time(self.progress.timing(self.env_step))
            store.save(
                self.round,
                state,
                self.replay.segment(store.saved_rows(), index),
                self.replay.written,
                self.replay.capacity,
                run.directory.part(self.round, run.log),
            )

    def load(self, at: int | None) -> list[Loaded]:
        """The checkpoints of one round, of every run; none where no run has any.

        Raises UserError where the runs share none, for one of them is damaged.
        """
        while True:
            found = [run.directory.checkpoints.load(at) for run in self.runs]
            loaded = [one for one in found if one is not None]
            if not loaded:
                return []
            oldest = min(one.state["round"] for one in loaded)
            if len(loaded) < len(found) or (oldest == at and not same_round(loaded)):
                missing = self.seeds[found.index(None)] if None in found else self.seeds[0]
                raise UserError(
                    f"seeds: the checkpoints of {self.seeds} are not of one step, and seed "
                    f"{missing} has no older one; train the seeds one by one, without --batched"
                )
            if same_round(loaded):
                return loaded
            at = oldest

    def restore(self, at: int | None = None) -> list[str]:
        """Loads the newest whole checkpoint, or that of round `at`, of every run; returns a line
        for each damaged one.
        """
        loaded = self.load(at)
        if loaded:
            self.algorithm.load_state_by_seed([one.state["algorithm"] for one in loaded])
        for index, one in enumerate(loaded):
            self.round, self.updates = one.state["round"], one.state["updates"]
            for stop, segment in one.segments:
                self.replay.restore_segment(stop, segment, index)
            self.replay.load_state_dict(one.state["replay"], index)
        for run in self.runs:
            run.directory.forget_parts_after_checkpoint()
        return [line for one in loaded for line in one.damaged]


def same_round(loaded: Sequence[Loaded]) -> bool:
    """Whether checkpoints are of one round."""
    return len({one.state["round"] for one in loaded}) == 1


def as_batch(flat: Any, tasks: int, envs: int, device: torch.device) -> torch.Tensor:
    """A copy of the envs' shared observations [E, 39] as [T, N, 39], on its way to the device."""
    return on_host(flat, device).view(tasks, envs, OBSERVATION_SIZE)
