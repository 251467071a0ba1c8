"""The training loop, on one page.

Time is counted in rounds: one episode of every env, in lockstep. Everything that is saved, measured
or interrupted happens between rounds, where an env has no state but its next goal; that is why a
run resumes to the bit. Within a round the envs step while the learner updates on data up to the
step before, always in that order, so that timing cannot change a result.

Seeds that train together share the envs' processes and nothing else: each has its own algorithm,
replay and generators, so that it learns what it would learn alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
from suite.training.evaluate import Policy, evaluate
from suite.training.learner import Learner
from suite.training.metrics import UpdateMetrics, all_finite, check_state
from suite.training.plasticity import measure
from suite.training.replay import Replay


@dataclass
class SeedRun:
    """One run: what learns, from what, and where it is written."""

    config: RunConfig
    directory: RunDirectory
    goals: Goals
    log: RowLog
    algorithm: Algorithm
    replay: Replay
    probe: Batch

    def __post_init__(self) -> None:
        c = self.config
        sizes = c.training.batch_per_task, c.task.envs_per_task
        self.learner = Learner(self.algorithm, self.replay, *sizes)
        self.policy = Policy(self.algorithm, len(c.tasks), self.replay.rows.device)
        self.metrics = UpdateMetrics(c.tasks, self.learner.metrics)
        self.updates = 0
        """Gradient steps done."""

    def learn(self, step: int) -> None:
        """One gradient step, in this step of the episode."""
        self.learner.learn()
        self.metrics.steps.append(step)

    def start_round(self, round_: int) -> list[Any]:
        """The goals of the round's episodes; makes the gradient steps that are due before it."""
        self.metrics = UpdateMetrics(self.config.tasks, self.learner.metrics)
        self.learner.join()
        for _ in range(self.algorithm.due_updates):
            self.learn(0)
        self.algorithm.due_updates = 0
        return list(self.goals.training(round_, self.config.task.envs_per_task))

    def end_round(self, env_step: int, outcomes: Outcomes) -> None:
        """Logs the round that ends at this step. Raises TrainingDiverged for what is not finite."""
        per_step = len(self.config.tasks) * self.config.task.envs_per_task
        self.metrics.check(env_step - self.config.steps_per_round, per_step, self.updates)
        self.updates += len(self.metrics.steps)
        round_ = env_step // self.config.steps_per_round
        if round_ % self.config.evaluation.metrics_every == 0:
            log, updates = self.log, self.updates
            log.per_task("train/return", env_step, updates, outcomes.returns.mean(1).tolist())
            log.per_task("train/success", env_step, updates, outcomes.successes.mean(1).tolist())
            self.metrics.write(log, env_step, updates)
        check_state(self.algorithm.state_dict(), env_step, f"seed {self.config.seed}'s algorithm")


@dataclass
class Trainer:
    """Runs that differ in their seeds alone, often one, and the envs that they share."""

    runs: Sequence[SeedRun]
    envs: VectorEnv
    evaluation_envs: VectorEnv
    progress: Progress
    round: int = 0
    """Rounds done."""
    evaluated: int = 0
    """The round up to which there are evaluations."""
    interrupt: Interrupt = field(default_factory=Interrupt)
    """Whether it is to stop after this round."""

    @property
    def config(self) -> RunConfig:
        """The configuration, but for the seed, of every run."""
        return self.runs[0].config

    @property
    def env_step(self) -> int:
        """Environment steps done, over all tasks, by each run."""
        return self.round * self.config.steps_per_round

    def run(self) -> None:
        """Trains to the end. Raises Interrupted where it is to stop before."""
        c = self.config
        with self.interrupt as interrupt:
            saved = time.monotonic()
            while self.round < c.rounds:
                outcomes = self.train_round()
                if self.due(self.round):
                    self.evaluate()
                # After the evaluation, which must see what has been trained and not, say, a
                # genotype that is bred only now; and never after the last one.
                if self.round < c.rounds:
                    learned = self.learned_in(self.round - 1)
                    for run, own in zip(self.runs, outcomes, strict=True):
                        to = run.algorithm
                        (to.end_episodes if learned else to.end_random_episodes)(own)
                minutes = (time.monotonic() - saved) / 60
                last = self.round == c.rounds
                if last or interrupt.requested or minutes >= c.execution.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
                if interrupt.requested and not last:
                    raise Interrupted(self.env_step)

    def close(self) -> None:
        """Ends the envs' processes."""
        self.envs.close()
        self.evaluation_envs.close()

    def train_round(self) -> list[Outcomes]:
        """One episode of every env, with gradient steps per lockstep once there is data."""
        c = self.config
        seeds, tasks, envs, horizon = self.shape
        rewards = np.zeros((seeds, tasks, envs, horizon), np.float32)
        returns, successes = np.zeros((seeds, tasks, envs)), np.zeros((seeds, tasks, envs))
        randoms = [stream(run.config.seed, "random actions", self.round) for run in self.runs]
        self.progress.note("training")
        self.envs.episode = f"the episode from env step {self.env_step:,} on"
        goals = [goal for run in self.runs for goal in run.start_round(self.round)]
        for run, observed in zip(self.runs, self.by_seed(self.envs.reset(goals)), strict=True):
            run.learner.see(observed)
        for step in range(horizon):
            seen = (self.round * horizon + step) * envs
            random = seen < c.training.random_steps
            for run in self.runs:
                run.learner.act()
            sent = self.actions(step, randoms if random else None)
            self.envs.send(sent.reshape(-1, ACTION_SIZE))
            if not random and self.runs[0].replay.size > 0 and step % c.training.update_every == 0:
                for _ in range(c.training.updates_per_step):
                    for run in self.runs:
                        run.learn(step)
            following, reward, succeeded = self.envs.receive()
            reward = reward.reshape(seeds, tasks, envs)
            came = zip(self.runs, sent, reward, self.by_seed(following), strict=True)
            for run, actions, rewarded, observed in came:
                run.learner.remember(actions, rewarded, observed, timeout=step == horizon - 1)
            rewards[..., step] = reward
            returns += reward
            successes = np.maximum(successes, succeeded.reshape(seeds, tasks, envs))
            self.progress.step(tasks * envs)
        for run in self.runs:
            run.learner.join()
        outcomes = [
            Outcomes(
                torch.from_numpy(returns[i]),
                torch.from_numpy(successes[i]),
                torch.from_numpy(rewards[i]),
                run.replay.mean_rewards(),
            )
            for i, run in enumerate(self.runs)
        ]
        for run, own in zip(self.runs, outcomes, strict=True):
            run.end_round(self.env_step + c.steps_per_round, own)
        self.round += 1  # where one has diverged, the round is not done
        self.progress.end_round(float(successes.mean()))
        return outcomes

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Seeds, tasks, envs per task and steps of an episode."""
        task = self.config.task
        return len(self.runs), len(self.config.tasks), task.envs_per_task, task.horizon

    def by_seed(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The envs' shared numbers [E, 39] as [S, T, N, 39]."""
        return observations.reshape(*self.shape[:3], OBSERVATION_SIZE)

    def actions(
        self, step: int, randoms: Sequence[np.random.Generator] | None
    ) -> NDArray[np.float32]:
        """What the envs are sent, [S, T, N, 4]: the decided actions, or random ones.

        Raises TrainingDiverged, naming seed, task and step, for what is not finite.
        """
        _, tasks, envs, _ = self.shape
        if randoms is not None:
            drawn = [own.uniform(-1, 1, (tasks, envs, ACTION_SIZE)) for own in randoms]
            return np.stack(drawn).astype(np.float32)
        sent = np.stack([run.learner.decided() for run in self.runs])
        if not np.isfinite(sent).all():
            at = self.env_step + step * tasks * envs
            for run, own in zip(self.runs, sent, strict=True):
                run.metrics.check(self.env_step, tasks * envs, run.updates)
                all_finite("action", own.reshape(tasks, -1), self.config.tasks, at)
        return sent

    def learned_in(self, round_: int) -> bool:
        """Whether no random action had a part in the episodes of this round."""
        task = self.config.task
        first = round_ * task.horizon * task.envs_per_task
        return first >= self.config.training.random_steps

    def due(self, round_: int) -> bool:
        """Whether an evaluation falls on the end of a round, counted from 1."""
        n, total = self.config.evaluation.evaluations, self.config.rounds
        return round_ * n // total > (round_ - 1) * n // total

    def evaluate(self) -> None:
        """Success and returns on the evaluation goals; plasticity; the algorithm's own report."""
        c, step = self.config, self.env_step
        episodes = c.evaluated_episodes(final=self.round == c.rounds)
        self.progress.note("evaluating")
        self.evaluation_envs.episode = f"an evaluation at env step {step:,}"
        results = evaluate(
            [run.policy for run in self.runs],
            self.evaluation_envs,
            [run.goals.evaluation(episodes) for run in self.runs],
            c.task.horizon,
        )
        for run, result in zip(self.runs, results, strict=True):
            log, updates = run.log, run.updates
            log.per_task("success", step, updates, result.successes.mean(1).tolist())
            log.per_task("return", step, updates, result.returns.mean(1).tolist())
            log.whole("success/mean", step, updates, float(result.successes.mean()))
            for network, probe in run.algorithm.probe(run.probe, seed=0).items():
                for metric, value in measure(probe).items():
                    log.whole(f"plasticity/{network}/{metric}", step, updates, value)
            for metric, values in run.algorithm.report(run.probe).items():
                log.per_task(metric, step, updates, values)
        self.progress.evaluated(step, [float(result.successes.mean()) for result in results])
        self.evaluated = self.round

    def scored_nothing(self) -> RowLog:
        """Success 0 at every evaluation still to come: what a run that diverged counts as."""
        c, log = self.config, RowLog(self.config.tasks)
        for round_ in filter(self.due, range(self.evaluated + 1, c.rounds + 1)):
            step, updates = round_ * c.steps_per_round, self.runs[0].updates
            log.per_task("success", step, updates, [0.0] * len(c.tasks))
            log.whole("success/mean", step, updates, 0.0)
        return log

    def save(self) -> None:
        """Writes a checkpoint of the end of this round for each run."""
        for run in self.runs:
            run.directory.refuse_moved()
            state = {
                "round": self.round,
                "updates": run.updates,
                "algorithm": run.algorithm.state_dict(),
                "replay": run.replay.state_dict(),
            }
            store = run.directory.checkpoints
            run.directory.time(self.progress.timing(self.env_step))
            store.save(
                self.round,
                state,
                run.replay.segment(store.saved_rows()),
                run.replay.written,
                run.replay.capacity,
                run.directory.part(self.round, run.log),
            )
            run.directory.outlive(self.env_step)

    def load(self, at: int | None) -> tuple[list[Loaded], list[str]]:
        """The checkpoints of one round, of every run, none where no run has any; and a line for
        each damaged one that was met.

        Raises UserError where the runs share none, for one of them is damaged.
        """
        seeds, lines = [run.config.seed for run in self.runs], list[str]()
        while True:
            found = [run.directory.checkpoints.load(at) for run in self.runs]
            loaded = [one for one in found if one is not None]
            lines += [line for one in loaded for line in one.damaged]
            if not loaded:
                return [], lines
            oldest = min(one.state["round"] for one in loaded)
            if len(loaded) < len(found) or (oldest == at and not same_round(loaded)):
                missing = seeds[found.index(None)] if None in found else seeds[0]
                raise UserError(
                    f"seeds: the checkpoints of {seeds} are not of one step, and seed "
                    f"{missing} has no older one; train the seeds one by one, without --batched"
                )
            if same_round(loaded):
                return loaded, lines
            at = oldest

    def restore(self, at: int | None = None) -> list[str]:
        """Loads the newest whole checkpoint, or that of round `at`, of every run; returns a line
        for each damaged one.
        """
        loaded, lines = self.load(at)
        for run, one in zip(self.runs, loaded, strict=False):
            run.algorithm.load_state_dict(one.state["algorithm"])
            self.round, run.updates = one.state["round"], one.state["updates"]
            for stop, segment in one.segments:
                run.replay.restore_segment(stop, segment)
            run.replay.load_state_dict(one.state["replay"])
        self.evaluated = self.round
        for run in self.runs:
            run.directory.forget_parts_after_checkpoint()
        return lines


def same_round(loaded: Sequence[Loaded]) -> bool:
    """Whether checkpoints are of one round."""
    return len({one.state["round"] for one in loaded}) == 1
