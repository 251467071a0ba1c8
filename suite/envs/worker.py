"""A worker process of the vector env: it builds its envs, then resets and steps them."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite.envs import ACTION_SIZE, OBSERVATION_SIZE
from suite.envs.tasks import Goal
from suite.messages import Diverged, Failure

QUIT = b"q"
STEPS = (b"0", b"1")
"""Steps the envs of a part."""
BAD = slice(4, 8)
"""MuJoCo's warnings BADQPOS, BADQVEL, BADQACC and BADCTRL: a simulation that has diverged."""


class SimulationError(Failure):
    """A worker died or could not build its envs."""


class SimulationDiverged(SimulationError, Diverged):
    """A simulation is not finite any more."""


class Arrays:
    """Views of the shared block of E envs."""

    def __init__(self, buffer: mmap.mmap, envs: int) -> None:
        floats = np.frombuffer(buffer, np.float32, envs * (OBSERVATION_SIZE + ACTION_SIZE))
        self.observations = floats[: envs * OBSERVATION_SIZE].reshape(envs, OBSERVATION_SIZE)
        self.actions = floats[envs * OBSERVATION_SIZE :].reshape(envs, ACTION_SIZE)
        doubles = np.frombuffer(buffer, np.float64, 2 * envs, offset=self.double_offset(envs))
        self.rewards, self.successes = doubles[:envs], doubles[envs:]

    @staticmethod
    def double_offset(envs: int) -> int:
        """Where the float64 part begins, in bytes."""
        return -(-envs * (OBSERVATION_SIZE + ACTION_SIZE) * 4 // 8) * 8

    @staticmethod
    def size(envs: int) -> int:
        """Bytes of the whole block."""
        return Arrays.double_offset(envs) + 2 * envs * 8


class Built(NamedTuple):
    """An env of a worker."""

    place: int
    """On the env axis."""
    label: str
    env: Any
    failures: NDArray[np.int32]
    """Live view of MuJoCo's counts of failures, after each of which it resets in silence."""


def serve(
    connection: Connection,
    parent: int,
    descriptor: int,
    envs: int,
    mine: list[list[tuple[int, str, str]]],
    reward_version: str,
    engine: str,
) -> None:
    """A worker's life: build its envs, then reset and step them until told to quit."""
    # Ctrl-C and a scheduler's SIGTERM reach the whole process group; the parent ends the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        # The parent keeps its descriptor open until every worker has answered once.
        shared = os.open(f"/proc/{parent}/fd/{descriptor}", os.O_RDWR)
        arrays = Arrays(mmap.mmap(shared, Arrays.size(envs)), envs)
        os.close(shared)
        parts = [build(own, reward_version, engine) for own in mine]
    except Exception as error:
        which = ", ".join(label for own in mine for *_, label in own)
        answer(connection, SimulationError, f"building {which} failed: {error}")
        return
    answer(connection)
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        if message == QUIT:
            return
        if message in STEPS:
            step(connection, parts[STEPS.index(message)], arrays)
        else:
            reset(
                connection, [env for part in parts for env in part], arrays, pickle.loads(message)
            )


def answer(
    connection: Connection, kind: type[SimulationError] = SimulationError, text: str = ""
) -> None:
    """Tells the parent that all is done or, with a text, what went wrong."""
    # A parent that is gone needs no answer.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.send_bytes(pickle.dumps((kind, text)) if text else b"")


def build(mine: list[tuple[int, str, str]], reward_version: str, engine: str) -> list[Built]:
    """The envs of a worker."""
    from suite.envs.meta_world import make_env

    made = [(index, label, make_env(name, reward_version, engine)) for index, name, label in mine]
    return [Built(*parts, parts[2].data.warning.number[BAD]) for parts in made]


def step(connection: Connection, built: Sequence[Built], arrays: Arrays) -> None:
    """Steps each env with its action."""
    diverged = ""
    for place, label, env, failures in built:
        try:
            observation, reward, _, _, info = env.step(arrays.actions[place])
        except Exception as error:
            answer(connection, SimulationError, f"the simulation of {label} failed: {error}")
            return
        arrays.observations[place] = observation
        arrays.rewards[place] = reward
        arrays.successes[place] = info["success"]
        if failures.any() or not math.isfinite(reward):
            diverged = diverged or f"the simulation of {label} diverged"
    answer(connection, SimulationDiverged, diverged)


def reset(
    connection: Connection, built: Sequence[Built], arrays: Arrays, goals: Sequence[Goal]
) -> None:
    """Resets each env to its goal."""
    for (place, label, env, _), goal in zip(built, goals, strict=True):
        try:
            observation = goal.reset(env)
        except Exception as error:
            answer(connection, SimulationError, f"the simulation of {label} failed: {error}")
            return
        arrays.observations[place] = observation
    answer(connection)
