"""Evaluation counts what Meta-World's own evaluator counts, and disturbs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from metaworld import evaluation as metaworld_evaluation
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP
from metaworld.wrappers import AutoTerminateOnSuccessWrapper
from numpy.typing import NDArray
from torch import Tensor

from algorithms.algorithm import Decision
from suite.envs.tasks import Goals
from suite.envs.vector import VectorEnv
from suite.training.evaluate import Policy, evaluate

TASKS = ("reach-v3", "drawer-close-v3", "push-v3")
EPISODES = 4
HORIZON = 500


class SometimesScripted:
    """Deterministic: the scripted policy for goals on one side of a task's median, else still."""

    def __init__(self, goals: Goals) -> None:
        self.policies = [ENV_POLICY_MAP[name]() for name in TASKS]
        observed = [[g.vector[-3] for g in task] for task in goals.evaluation(EPISODES)]
        self.middle = [float(np.median(xs)) for xs in observed]

    def action(self, task: int, observation: NDArray[Any]) -> NDArray[Any]:
        # The goal's x in the observation tells the episodes apart; drawer-close shifts it alike.
        if task != 1 and observation[-3] < self.middle[task]:
            return np.zeros(4, np.float32)
        action = self.policies[task].get_action(observation.astype(np.float64))
        return np.clip(action, -1, 1).astype(np.float32)

    def act(self, observations: Tensor, explore: bool) -> Decision:
        assert not explore
        actions = [[self.action(t, o) for o in envs] for t, envs in enumerate(observations.numpy())]
        return Decision(torch.from_numpy(np.array(actions)))

    # What Meta-World's evaluator calls.
    def eval_action(self, observations: NDArray[Any]) -> NDArray[Any]:
        return np.stack([self.action(t, o.astype(np.float32)) for t, o in enumerate(observations)])

    def reset(self, env_mask: NDArray[Any]) -> None:
        pass


class GoalsInTurn(gym.Wrapper):  # type: ignore[type-arg]
    """Gives each episode the next of a list of goals: Meta-World's own wrappers draw them."""

    def __init__(self, env: Any, goals: list[NDArray[np.float64]]) -> None:
        super().__init__(env)
        self.goals: Iterator[NDArray[np.float64]] = iter(goals + goals[:1])

    def reset(self, **_: Any) -> Any:
        env: Any = self.env.unwrapped
        env._last_rand_vec = next(self.goals)
        return self.env.reset()


def policy(agent: Any, tasks: int, envs_per_task: int) -> Policy:
    agent.generators = {}
    return Policy(agent, tasks, torch.device("cpu"), envs_per_task)


def metaworld_env(name: str, goals: list[NDArray[np.float64]]) -> Any:
    env = ALL_V3_ENVIRONMENTS[name]()
    env._partially_observable = False
    del env.sawyer_observation_space
    env._freeze_rand_vec, env._set_task_called = True, True
    wrapped: Any = AutoTerminateOnSuccessWrapper(env)
    wrapped.toggle_terminate_on_success(True)
    return gym.wrappers.RecordEpisodeStatistics(GoalsInTurn(wrapped, goals))


def test_success_equals_metaworlds_own_evaluator_on_the_same_goals() -> None:
    goals = Goals(",".join(TASKS), "preset", 3, 3, "fast")
    agent: Any = SometimesScripted(goals)
    plan = goals.evaluation(EPISODES)
    with VectorEnv(TASKS, 2, "v2", "fast", 1, parts=2) as envs:
        ours = evaluate([policy(agent, 3, 2)], envs, [plan], HORIZON)[0]

    rates = []
    for index, name in enumerate(TASKS):
        # One task at a time: its evaluator waits for the slowest, and the others run out of goals.
        single = gym.vector.SyncVectorEnv(
            [lambda n=name, t=plan[index]: metaworld_env(n, [g.vector for g in t])],
            autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
        )
        only: Any = SometimesScripted(goals)
        only.eval_action = lambda o, i=index: agent.action(i, o[0].astype(np.float32))[None]
        _, _, success, _ = metaworld_evaluation.evaluation(only, single, EPISODES)
        rates.append(success[name])
    assert ours.successes.mean(1).tolist() == rates
    assert 0 < np.mean(rates) < 1, "an agent that always or never succeeds shows nothing"


def test_the_last_goals_are_evaluated_once_although_envs_run_in_fives() -> None:
    goals = Goals("reach-v3", "preset", 0, 0, "fast")
    seen: list[tuple[float, ...]] = []

    class Recorder:
        def act(self, observations: Tensor, explore: bool) -> Decision:
            seen.extend(tuple(o[-3:].tolist()) for o in observations[0])
            return Decision(torch.zeros(1, observations.shape[1], 4))

    with VectorEnv(["reach-v3"], 5, "v2", "fast", 1) as envs:
        result = evaluate([policy(Recorder(), 1, 5)], envs, [goals.evaluation(7)], 1)[0]
    assert result.successes.shape == (1, 7)
    assert len(set(seen)) == 7


@pytest.mark.parametrize("episodes", [1, 5])
def test_neither_time_nor_parts_change_the_numbers(episodes: int) -> None:
    goals = Goals("reach-v3,push-v3", "random", 0, 0, "fast")
    plan = [goals.evaluation(episodes)]

    class Pusher:
        def act(self, observations: Tensor, explore: bool) -> Decision:
            return Decision(torch.tanh(observations[..., 3:7] * 3))

    def returns(workers: int, parts: int) -> NDArray[np.float64]:
        with VectorEnv(["reach-v3", "push-v3"], 3, "v2", "fast", workers, parts=parts) as envs:
            first, again = (evaluate([policy(Pusher(), 2, 3)], envs, plan, 30) for _ in range(2))
        np.testing.assert_array_equal(first[0].returns, again[0].returns)
        return first[0].returns

    together = returns(2, 1)
    assert np.unique(together).size == 2 * episodes
    np.testing.assert_array_equal(returns(1, 2), together)
    np.testing.assert_array_equal(returns(2, 2), together)
