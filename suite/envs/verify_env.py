"""Compare the fast engine with Meta-World, bit for bit: `python -m suite.envs.verify_env`.

For every task, reward version and seed: 500 steps each of random actions, of held actions and of
Meta-World's scripted policy, from resets to a random goal, to a fixed goal and to one seen before.
Observations, rewards, termination, truncation and info must have the same bits and types. Prints a
table of the steps compared and those that differ; exits with 1 if any does.
"""

from __future__ import annotations

import argparse
import struct
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.envs import goals
from suite.envs.meta_world import make_env, preset_goals, reset_to_goal, reset_to_random_goal

ACTIONS = ("random", "held", "scripted")
_HELD_FOR = 25


def exact(value: Any) -> Any:
    """`value` as something that is equal only for equal bits and equal types."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return ("dict", tuple((key, exact(part)) for key, part in value.items()))
    if isinstance(value, (tuple, list)):
        return (type(value), tuple(exact(part) for part in value))
    if isinstance(value, np.generic):
        return (type(value), value.tobytes())
    if isinstance(value, float):
        return (float, struct.pack("d", value))
    return (type(value), value)


def actions(kind: str, task: str, seed: int) -> Iterator[NDArray[np.float32]]:
    """Actions [4] of one kind; the scripted policy is sent the observation it acts on."""
    generator = np.random.default_rng((seed, ACTIONS.index(kind)))
    if kind == "scripted":
        from metaworld.policies import ENV_POLICY_MAP

        policy_class: Any = ENV_POLICY_MAP[task]
        policy = policy_class()
        action: Any = None
        while True:
            observation = yield action
            action = policy.get_action(observation)
    held = 1 if kind == "random" else _HELD_FOR
    yield np.zeros(4, np.float32)
    while True:
        # Some exceed the bounds of the action space, which the env clips.
        action = generator.uniform(-1.2, 1.2, 4).astype(np.float32)
        for _ in range(held):
            yield action


def compare_episode(
    kind: str, task: str, seed: int, steps: int, envs: Sequence[Any], observation: Any
) -> int:
    """Step both envs alike from `observation`; the number of steps whose results differ."""
    differ = 0
    stream: Any = actions(kind, task, seed)
    next(stream)
    for _ in range(steps):
        action = stream.send(observation)
        results = [env.step(action) for env in envs]
        differ += exact(results[0]) != exact(results[1])
        observation = results[0][0]
    return differ


def compare_resets(kind: str, envs: Sequence[Any], generators: Sequence[Any]) -> tuple[Any, int]:
    """Reset both envs alike; (observation, 1 if the results differ else 0)."""
    if kind == "random goal":
        pairs = zip(envs, generators, strict=True)
        observations = [reset_to_random_goal(env, generator) for env, generator in pairs]
    else:
        goal = envs[0]._last_rand_vec
        observations = [reset_to_goal(env, goal) for env in envs]
    results = [
        (observation, env._last_rand_vec, env.init_tcp, generator.random())
        for observation, env, generator in zip(observations, envs, generators, strict=True)
    ]
    return observations[0], int(exact(results[0]) != exact(results[1]))


def compare_task(task: str, reward_version: str, seed: int, steps: int) -> dict[str, int]:
    """Steps (and resets) that differ, by kind of action and of reset."""
    envs = [make_env(task, reward_version, engine) for engine in ("metaworld", "fast")]
    generators = [np.random.default_rng(seed) for _ in envs]
    resets = ["random goal", "new goal", "known goal"]
    found = dict.fromkeys(("reset", *ACTIONS), 0)
    # Every seed pairs the kinds of action with other kinds of reset.
    for index, kind in enumerate(ACTIONS):
        reset = resets[(index + seed) % 3]
        if reset == "known goal":
            found["reset"] += compare_resets("random goal", envs, generators)[1]
            found["reset"] += compare_resets("new goal", envs, generators)[1]
        elif reset == "new goal":
            found["reset"] += compare_resets("random goal", envs, generators)[1]
        observation, differs = compare_resets(reset, envs, generators)
        found["reset"] += differs
        found[kind] += compare_episode(kind, task, seed, steps, envs, observation)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check and print its table; 0 if nothing differs."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=list(ALL_V3_ENVIRONMENTS))
    parser.add_argument("--steps", type=int, default=500, help="of an episode, at most 500")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    chosen = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message="Constant", category=UserWarning)

    columns = ("reset", *ACTIONS)
    print(f"{'steps that differ':30}" + "".join(f"{name:>10}" for name in columns))
    total = compared = 0
    for task in chosen.tasks:
        for reward_version in ("v1", "v2"):
            counts = [compare_task(task, reward_version, s, chosen.steps) for s in chosen.seeds]
            row = [sum(count[name] for count in counts) for name in columns]
            total += sum(row)
            compared += len(ACTIONS) * chosen.steps * len(chosen.seeds)
            cells = "".join(f"{number:>10}" for number in row)
            print(f"{task:27}{reward_version:3}{cells}", flush=True)
    for name, tasks in (("MT10", list(MT10_V3)), ("MT50", list(ALL_V3_ENVIRONMENTS))):
        if set(tasks) <= set(chosen.tasks):
            pairs = zip(
                preset_goals(tasks, seed=1), goals.metaworld_preset_goals(tasks, 1), strict=True
            )
            differ = sum(exact(fast) != exact(slow) for fast, slow in pairs)
            total += differ
            print(f"preset goals of {name}: {differ} of {len(tasks)} tasks differ", flush=True)
    print(f"{total} differences in {compared} steps, observations to info")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
