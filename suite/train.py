"""The training loop, on one page.

Time is counted in rounds: one episode of every env, in lockstep. Everything that is saved, measured
or interrupted happens between rounds, where an env has no state but its next goal; that is why a
run resumes to the bit. Within a round the envs step while the learner updates on data up to the
step before, always in that order, so that timing cannot change a result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from algorithms import entry, load
from algorithms.algorithm import Algorithm, Batch, Outcomes, Problem, generator
from suite.config import RunConfig
from suite.evaluate import Evaluation, evaluate
from suite.interrupt import Interrupt, Interrupted
from suite.metrics import UpdateMetrics, all_finite, check_state
from suite.plasticity import measure
from suite.probe_batch import probe_batch
from suite.progress import Progress
from suite.randomness import stream
from suite.replay import Replay
from suite.rows import RowLog
from suite.runs import RunDirectory
from suite.tasks import Goals
from suite.vector import ACTION_SIZE, OBSERVATION_SIZE, VectorEnv

EVALUATION_ENVS = 5
"""Envs a task in evaluation."""


@dataclass
class Trainer:
    """The parts of a run, wired."""

    config: RunConfig
    directory: RunDirectory
    algorithm: Algorithm
    replay: Replay
    goals: Goals
    envs: VectorEnv
    evaluation_envs: VectorEnv
    probe: Batch
    log: RowLog
    progress: Progress
    round: int = 0
    """Rounds done."""
    updates: int = 0
    """Gradient steps done."""

    @property
    def env_step(self) -> int:
        """Environment steps done, over all tasks."""
        return self.round * self.config.steps_per_round

    def run(self) -> Evaluation:
        """Trains to the end of the run and returns the last evaluation."""
        c = self.config
        evaluation: Evaluation | None = None
        with Interrupt() as interrupt:
            saved = time.monotonic()
            while self.round < c.rounds:
                outcomes = self.train_round()
                if self.due():
                    evaluation = self.evaluate()
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
        return evaluation or self.evaluate()

    def train_round(self) -> Outcomes | None:
        """One episode of every env, with a gradient step per lockstep once there is data.

        Returns how the episodes went, or None where random actions had a part in them.
        """
        c = self.config
        tasks, envs = len(c.tasks), c.task.envs_per_task
        device = self.replay.rows.device
        metrics = UpdateMetrics(c.tasks)
        returns, successes = np.zeros(tasks * envs), np.zeros(tasks * envs)
        random_actions = stream(c.seed, "random actions", self.round)
        self.progress.start_round()

        goals = self.goals.training(self.round, envs)
        observations = as_batch(self.envs.reset(goals), tasks, envs, device)
        for step in range(c.task.horizon):
            seen = (self.round * c.task.horizon + step) * envs
            learning = seen >= c.training.random_steps and self.replay.size > 0
            decision = self.algorithm.act(observations, explore=True)
            actions = decision.actions
            if seen < c.training.random_steps:
                drawn = random_actions.uniform(-1, 1, (tasks, envs, ACTION_SIZE))
                actions = torch.from_numpy(drawn).float().to(device)
            sent = actions.reshape(-1, ACTION_SIZE).cpu().numpy()
            if not np.isfinite(sent).all():
                metrics.check(self.env_step, tasks * envs, self.updates)
                at = self.env_step + step * tasks * envs
                all_finite("action", sent.reshape(tasks, -1), c.tasks, at)
            self.envs.send(sent)
            if learning and step % c.training.update_every == 0:
                batch = self.replay.sample(c.training.batch_per_task)
                metrics.add(step, self.algorithm.update(batch))
            following, rewards, succeeded = self.envs.receive()
            next_observations = as_batch(following, tasks, envs, device)
            self.replay.add(
                observations,
                actions,
                torch.from_numpy(rewards).float().view(tasks, envs).to(device),
                next_observations,
                step == c.task.horizon - 1,
                decision.extras,
            )
            returns += rewards
            successes = np.maximum(successes, succeeded)
            observations = next_observations
            self.progress.step(tasks * envs)

        metrics.check(self.env_step, tasks * envs, self.updates)
        self.round += 1
        self.updates += metrics.count
        shape = (tasks, envs)
        outcomes = Outcomes(
            torch.from_numpy(returns.reshape(shape)), torch.from_numpy(successes.reshape(shape))
        )
        self.log.per_task("train/return", self.env_step, self.updates, outcomes.returns.mean(1))
        self.log.per_task("train/success", self.env_step, self.updates, outcomes.successes.mean(1))
        metrics.write(self.log, self.env_step, self.updates)
        self.progress.end_round(self.env_step, float(successes.mean()))
        check_state(self.algorithm.state_dict(), self.env_step)
        own = (self.round - 1) * c.task.horizon * envs >= c.training.random_steps
        return outcomes if own else None

    def due(self) -> bool:
        """Whether an evaluation falls on the end of the round that has just ended."""
        n, total = self.config.evaluation.evaluations, self.config.rounds
        return self.round * n // total > (self.round - 1) * n // total

    def evaluate(self) -> Evaluation:
        """Success and returns on the evaluation goals; plasticity; the algorithm's own report."""
        c, step = self.config, self.env_step
        final = self.round == c.rounds
        episodes = c.evaluation.final_episodes if final else c.evaluation.eval_episodes
        self.progress.note("evaluating")
        result = evaluate(
            self.algorithm,
            self.evaluation_envs,
            self.goals.evaluation(episodes),
            c.task.horizon,
            self.replay.rows.device,
        )
        self.log.per_task("success", step, self.updates, result.success_rates())
        self.log.per_task("return", step, self.updates, result.returns.mean(1))
        self.log.whole("success/mean", step, self.updates, float(result.successes.mean()))
        for network, probe in self.algorithm.probe(self.probe, seed=0).items():
            for metric, value in measure(probe).items():
                self.log.whole(f"plasticity/{network}/{metric}", step, self.updates, value)
        for metric, values in self.algorithm.report(self.probe).items():
            self.log.per_task(metric, step, self.updates, values)
        self.progress.evaluated(step, result.success_rates())
        return result

    def save(self) -> None:
        """Writes a checkpoint of the end of this round."""
        state = {
            "round": self.round,
            "updates": self.updates,
            "algorithm": self.algorithm.state_dict(),
            "replay": self.replay.state_dict(),
        }
        store = self.directory.checkpoints
        self.directory.time(self.progress.timing(self.env_step))
        store.save(
            self.round,
            state,
            self.replay.segment(store.saved_rows()),
            self.replay.written,
            self.replay.capacity,
            self.directory.part(self.round, self.log),
        )

    def restore(self) -> list[str]:
        """Loads the newest whole checkpoint; returns a line for each damaged one."""
        loaded = self.directory.checkpoints.load()
        if loaded is not None:
            self.round, self.updates = loaded.state["round"], loaded.state["updates"]
            self.algorithm.load_state_dict(loaded.state["algorithm"])
            for stop, segment in loaded.segments:
                self.replay.restore_segment(stop, segment)
            self.replay.load_state_dict(loaded.state["replay"])
        self.directory.forget_parts_after_checkpoint()
        return loaded.damaged if loaded else []


def as_batch(flat: Any, tasks: int, envs: int, device: torch.device) -> torch.Tensor:
    """A copy of the envs' shared observations [E, 39] as [T, N, 39] on the device."""
    return torch.from_numpy(flat).to(device, copy=True).view(tasks, envs, OBSERVATION_SIZE)


def build(config: RunConfig, directory: RunDirectory, progress: Progress) -> Trainer:
    """Makes every part of a run; the caller closes the envs."""
    task, execution = config.task, config.execution
    device = torch.device(config.device)
    problem = Problem(config.tasks, task.envs_per_task, config.seed, device)
    algorithm = load(entry(config.algorithm).path)(config.settings, problem)
    replay = Replay(
        len(config.tasks),
        config.training.buffer_per_task,
        algorithm.extras,
        device,
        generator(problem, "replay"),
    )
    goals = Goals(task.tasks, task.goals, config.seed, config.goal_seed, execution.engine)
    return Trainer(
        config,
        directory,
        algorithm,
        replay,
        goals,
        VectorEnv(
            config.tasks, task.envs_per_task, task.reward_version, execution.engine,
            execution.workers,
        ),
        VectorEnv(
            config.tasks, EVALUATION_ENVS, task.reward_version, execution.engine,
            execution.workers,
        ),
        probe_batch(
            config.tasks,
            goals.preset,
            config.evaluation.probe_size,
            task.horizon,
            task.reward_version,
            execution.engine,
            device,
        ),
        RowLog(config.tasks),
        progress,
    )  # fmt: skip
