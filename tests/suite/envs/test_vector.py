"""Envs in processes: the same as without, and nobody is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from suite.envs.meta_world import make_env, reset_to_goal, reset_to_random_goal
from suite.envs.tasks import Goal
from suite.envs.vector import VectorEnv
from suite.envs.worker import SimulationDiverged, SimulationError
from suite.messages import UserError
from suite.randomness import stream

ROOT = Path(__file__).parents[3]
NAMES = ("reach-v3", "drawer-close-v3", "push-v3")
PUSH = "push-v3"
GOALS = [
    Goal(np.array([0.0, 0.6, 0.02, 0.05, 0.85, 0.2])),
    Goal(stream=(0, ("training goal", 1, 0, 3))),
    Goal(np.array([0.0, 0.65, 0.02, 0.05, 0.85, 0.01])),
]
STEPS = 6
Trajectory = list[tuple[NDArray[np.float64], ...]]


def actions(step: int, envs: int = 3) -> NDArray[np.float32]:
    return stream(0, "test actions", step).uniform(-1, 1, (envs, 4)).astype(np.float32)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def gone(processes: list[int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(alive, processes)):
        time.sleep(0.05)
    return not any(map(alive, processes))


def pids(envs: VectorEnv) -> list[int]:
    return [process.pid for _, process, _ in envs.workers]


def episode(envs: VectorEnv) -> Trajectory:
    seen: Trajectory = [(envs.reset(GOALS).copy(),)]
    for step in range(STEPS):
        envs.send(actions(step))
        seen.append(tuple(values.copy() for values in envs.receive()))
    return seen


@pytest.fixture(scope="module")
def singly() -> Trajectory:
    """What Meta-World's own classes give, one after the other in this process."""
    envs = [make_env(name, "v2", "metaworld") for name in NAMES]
    first = []
    for env, goal in zip(envs, GOALS, strict=True):
        if goal.vector is not None:
            first.append(reset_to_goal(env, goal.vector))
        else:
            assert goal.stream is not None
            first.append(reset_to_random_goal(env, stream(goal.stream[0], *goal.stream[1])))
    seen: Trajectory = [(np.array(first, np.float32),)]
    for step in range(STEPS):
        results = [env.step(a) for env, a in zip(envs, actions(step), strict=True)]
        seen.append(
            (
                np.array([r[0] for r in results], np.float32),
                np.array([r[1] for r in results]),
                np.array([r[4]["success"] for r in results]),
            )
        )
    return seen


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_envs_in_any_number_of_workers_equal_envs_that_are_stepped_singly(
    workers: int, singly: Trajectory
) -> None:
    with VectorEnv(NAMES, 1, "v2", "metaworld", workers) as envs:
        assert len(envs.workers) == workers
        # A second episode starts from its goals alone, whatever the first one did.
        for seen in (episode(envs), episode(envs)):
            for step, (ours, theirs) in enumerate(zip(seen, singly, strict=True)):
                for mine, other in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(mine, other, err_msg=f"step {step}")


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VectorEnv]:
    """reach in one worker, push in another."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)  # MuJoCo logs a diverged simulation where it runs
    labels = ["reach-v3 (seed 5)", "push-v3 (seed 5)"]
    envs = VectorEnv(["reach-v3", "push-v3"], 1, "v2", "metaworld", 2, labels)
    envs.episode = "the episode from env step 80 on"
    yield envs
    envs.close()


def reset_pair(envs: VectorEnv) -> None:
    envs.reset([GOALS[0], GOALS[2]])


def test_a_killed_worker_is_reported_with_its_tasks_and_none_is_left(pair: VectorEnv) -> None:
    reset_pair(pair)
    workers = pids(pair)
    pair.send(actions(0, 2))
    pair.receive()
    (victim,) = [p.pid for _, p, mine in pair.workers if [pair.names[i] for i in mine] == [PUSH]]
    os.kill(victim, signal.SIGKILL)
    pair.send(actions(1, 2))
    with pytest.raises(SimulationError) as error:
        pair.receive()
    message = str(error.value)
    where = "in step 2 of the episode from env step 80 on"
    assert f"the worker process of push-v3 (seed 5) ended (exit status -9) {where}" in message
    assert "reach-v3" not in message
    # Whether there is a checkpoint to resume from is not for the envs to say.
    assert "resumes" not in message
    assert "\n" not in message
    assert gone(workers)


def test_a_simulation_that_diverges_is_reported_with_its_task_and_step(pair: VectorEnv) -> None:
    reset_pair(pair)
    workers = pids(pair)
    pair.send(actions(0, 2))
    pair.receive()
    pair.send(np.array([[0, 0, 0, 0], [np.nan, 0, 0, 0]], np.float32))
    with pytest.raises(
        SimulationDiverged,
        match=r"^the simulation of push-v3 \(seed 5\) diverged, step 2 of .* 80 on$",
    ):
        pair.receive()
    assert gone(workers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_process_group_leave_the_ending_to_the_parent(
    pair: VectorEnv, number: signal.Signals
) -> None:
    # Ctrl-C in a terminal and a scheduler's time limit reach the workers too.
    reset_pair(pair)
    for worker in pids(pair):
        os.kill(worker, number)
    pair.send(actions(0, 2))
    assert np.isfinite(pair.receive().observations).all()


def test_closing_ends_the_workers_and_may_be_repeated(pair: VectorEnv) -> None:
    workers = pids(pair)
    assert all(map(alive, workers))
    pair.close()
    assert not any(map(alive, workers))
    pair.close()


def test_an_unknown_task_or_engine_is_reported_by_the_parent() -> None:
    with pytest.raises(SimulationError, match=r"building no-such-task failed: .*no-such-task"):
        VectorEnv(["no-such-task"], 1, "v2", "metaworld", 1)


def test_envs_are_task_major() -> None:
    with VectorEnv(["reach-v3", "push-v3"], 2, "v2", "metaworld", 1) as envs:
        assert envs.names == ["reach-v3", "reach-v3", "push-v3", "push-v3"]
        observations = envs.reset([GOALS[0], GOALS[0], GOALS[2], GOALS[2]])
        assert np.array_equal(observations[0], observations[1])
        assert not np.array_equal(observations[1], observations[2])


LIMITED = """
import resource
import sys
from suite.envs.vector import VectorEnv
from suite.messages import UserError

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
try:
    VectorEnv(["reach-v3"], 4, "v2", "fast", 4).close()
except UserError as error:
    print(f"error: {error}")
"""


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ((20, 20), "error: workers: 4 environment processes need about"),
        ((20, 4096), ""),  # what the user may open is enough
    ],
)
def test_a_low_limit_of_open_files_gives_one_line_and_leaves_no_worker(
    limits: tuple[int, int], line: str, tmp_path: Path
) -> None:
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    command = [sys.executable, str(script), *map(str, limits)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.startswith(line) and done.stdout.count("\n") == bool(line)


def test_a_worker_that_cannot_be_started_ends_those_that_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = VectorEnv.start

    def second_fails(envs: VectorEnv, *arguments: Any) -> None:
        if envs.workers:
            workers.extend(pids(envs))
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(envs, *arguments)

    workers: list[int] = []
    monkeypatch.setattr(VectorEnv, "start", second_fails)
    with pytest.raises(UserError, match=r"^workers: 2 environment processes cannot be started"):
        VectorEnv(["reach-v3", "push-v3"], 1, "v2", "fast", 2)
    assert len(workers) == 1 and gone(workers)


PARENT = """
import sys
import torch
from suite.envs.vector import VectorEnv

envs = VectorEnv(["reach-v3", "push-v3"], 1, "v2", "metaworld", 2)
assert __file__ == sys.argv[0]
print(*(process.pid for _, process, _ in envs.workers), flush=True)
sys.stdin.read()
"""


def test_a_killed_parent_leaves_no_workers_and_workers_do_not_load_torch(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(alive, workers))
        for worker in workers:
            # A library that is loaded is mapped; torch costs a worker 200 MB and a second.
            assert "libtorch" not in Path(f"/proc/{worker}/maps").read_text()
            assert "libmujoco" in Path(f"/proc/{worker}/maps").read_text()
        parent.kill()
    assert gone(workers)


def test_importing_the_module_does_not_import_torch() -> None:
    script = "import sys, suite.envs.vector; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_threads_of_the_environment_are_as_before() -> None:
    before = dict(os.environ)
    with VectorEnv(["reach-v3"], 1, "v2", "metaworld", 1) as envs:
        assert dict(os.environ) == before
        (worker,) = pids(envs)
        environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
        assert b"OMP_NUM_THREADS=1" in environment
