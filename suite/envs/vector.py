"""Many Meta-World envs in worker processes, in lockstep over shared memory.

`send` wakes every worker once and returns; `receive` waits for one answer of each. What a step
returns depends on goals and actions alone, not on timing or on the number of workers. Envs in two
parts step in turns: while one part's actions are decided, the workers are busy with the other.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import multiprocessing
import os
import pickle
import resource
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite.envs.placement import spread
from suite.envs.tasks import Goal
from suite.envs.worker import QUIT, STEPS, Arrays, SimulationError, serve
from suite.messages import UserError

FILES_FREE = 32
"""Files that a process must be able to open beside those counted here: libraries, rows, logs."""


class StepResult(NamedTuple):
    """One lockstep of all envs; views of shared memory, valid until the next `send`."""

    observations: NDArray[np.float32]
    """[E, 39]."""
    rewards: NDArray[np.float64]
    """[E], unscaled."""
    successes: NDArray[np.float64]
    """[E], info["success"]."""


class VectorEnv:
    """E envs, task-major: the first N belong to the first task."""

    def __init__(
        self,
        names: Sequence[str],
        envs_per_task: int,
        reward_version: str,
        engine: str,
        workers: int = 0,
        labels: Sequence[str] = (),
        parts: int = 1,
    ) -> None:
        """`names` are tasks; `labels`, one each, say in messages which they are.

        Of the envs of each task every `parts`-th, 1 or 2, belongs to the same part.
        """
        self.names = [name for name in names for _ in range(envs_per_task)]
        self.labels = [label for label in labels or names for _ in range(envs_per_task)]
        self.envs = len(self.names)
        part_of = np.tile(np.arange(envs_per_task) % parts, len(names))
        self.parts = [np.flatnonzero(part_of == part) for part in range(parts)]
        """Where on the env axis each part is."""
        self.steps = 0
        self.episode = "the episode"
        """What the steps are counted in, for messages."""
        count = min(workers or len(os.sched_getaffinity(0)), self.envs)
        check_open_files(count)
        # Anonymous memory by file descriptor: nothing to leak, whoever is killed.
        descriptor = os.memfd_create("mtscale")
        os.ftruncate(descriptor, Arrays.size(self.envs))
        self.arrays = Arrays(mmap.mmap(descriptor, Arrays.size(self.envs)), self.envs)
        self.workers: list[tuple[Connection, Any, list[int]]] = []
        # Workers ignore SIGTERM, by which the interpreter would end them at exit.
        atexit.register(self.close)
        try:
            for indices in self.placed(count):
                self.start(indices, descriptor, reward_version, engine)
        except OSError as error:
            self.close()
            raise UserError(
                f"workers: {count} environment processes cannot be started ({error.strerror}); "
                "give fewer --workers, or raise this shell's limits"
            ) from None
        try:
            self.collect()
        finally:
            os.close(descriptor)

    def placed(self, workers: int) -> list[list[list[int]]]:
        """The envs of each worker, part by part: each part is spread over all workers."""
        plans = []
        for part, places in enumerate(self.parts):
            plan = spread([self.names[place] for place in places], workers)
            own = [[int(places[index]) for index in indices] for indices in plan]
            # The first workers get the most: in the other part the last ones do.
            plans.append(own[::-1] if part % 2 else own)
        return [list(own) for own in zip(*plans, strict=True)]

    def start(
        self, parts: list[list[int]], descriptor: int, reward_version: str, engine: str
    ) -> None:
        """Starts the worker of these envs of each part. Raises OSError where there is no room."""
        context = multiprocessing.get_context("spawn")
        parent, child = context.Pipe()
        mine = [[(i, self.names[i], self.labels[i]) for i in indices] for indices in parts]
        indices = [index for part in parts for index in part]
        shared = (os.getpid(), descriptor, self.envs)
        process = context.Process(
            target=serve, args=(child, *shared, mine, reward_version, engine), daemon=True
        )
        with single_threaded_children(), without_main():
            process.start()
        child.close()
        self.workers.append((parent, process, indices))

    def reset(self, goals: Sequence[Goal]) -> NDArray[np.float32]:
        """Resets every env to its goal; returns observations [E, 39] (a view)."""
        for connection, _, indices in self.workers:
            self.post(connection, pickle.dumps([goals[index] for index in indices]))
        self.collect()
        self.steps = 0
        return self.arrays.observations

    def send(self, actions: NDArray[np.float32], part: int = 0) -> None:
        """Starts a step of the envs of a part with their part of the actions [E, 4]."""
        places = self.parts[part]
        self.arrays.actions[places] = actions[places]
        self.steps += part == 0
        for connection, _, _ in self.workers:
            self.post(connection, STEPS[part])

    def receive(self) -> StepResult:
        """Waits for the step that was sent first and not received yet."""
        self.collect()
        return StepResult(self.arrays.observations, self.arrays.rewards, self.arrays.successes)

    def post(self, connection: Connection, message: bytes) -> None:
        """Sends a worker a message."""
        # A worker that is gone is reported by `collect`, which knows its tasks.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send_bytes(message)

    def collect(self) -> None:
        """Waits for one answer of every worker; raises SimulationError for one that failed."""
        for connection, process, indices in self.workers:
            try:
                answer = connection.recv_bytes()
            except (EOFError, ConnectionResetError):
                process.join(5)
                tasks = ", ".join(dict.fromkeys(self.labels[index] for index in indices))
                self.close()
                raise SimulationError(
                    f"the worker process of {tasks} ended (exit status {process.exitcode}) in step "
                    f"{self.steps} of {self.episode}, perhaps out of memory"
                ) from None
            if answer:
                self.close()
                kind, text = pickle.loads(answer)
                raise kind(f"{text}, step {self.steps} of {self.episode}")

    def close(self) -> None:
        """Ends the workers."""
        for connection, _, _ in self.workers:
            self.post(connection, QUIT)
        for connection, process, _ in self.workers:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()
            connection.close()
        self.workers = []
        atexit.unregister(self.close)

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Processes spawned in this context do not run the user's script again, which may train at its
    top level or import torch; nothing of it is sent to them.
    """
    main: Any = sys.modules["__main__"]
    names = [name for name in ("__spec__", "__file__") if hasattr(main, name)]
    before = {name: getattr(main, name) for name in names}
    main.__spec__ = main.__file__ = None
    try:
        yield
    finally:
        for name in ("__spec__", "__file__"):
            delattr(main, name)
        vars(main).update(before)


@contextlib.contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started in this context run their linear algebra on one thread."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check_open_files(workers: int) -> None:
    """Raises UserError where this process may not open the files that its workers take.

    The limit is raised as far as that is allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/proc/self/fd")) + 2 * workers + FILES_FREE
    if needed <= soft or soft == resource.RLIM_INFINITY:
        return
    if needed <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    else:
        raise UserError(
            f"workers: {workers} environment processes need about {needed} open files, and the "
            f"limit is {soft}; raise it (ulimit -n {max(1024, needed)}) or give fewer --workers"
        )
