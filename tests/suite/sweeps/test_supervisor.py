"""What a sweep decides: what to start, when, and what became of it; without processes."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.bench import clear
from suite.checks import check
from suite.config import RunConfig
from suite.estimate import Cost, combined, seconds_left, sweep_seconds
from suite.messages import Failure, UserError
from suite.runs.directory import RunDirectory
from suite.runs.finished import seal
from suite.runs.lock import Busy, locked
from suite.runs.progress import Progress
from suite.runs.state import State, state
from suite.sweeps import child, command, on_this_machine, supervisor
from suite.sweeps.child import BUSY, CANCELLED, Child, Share, keep_failure, meaning, within
from suite.sweeps.command import check_disk
from suite.sweeps.on_this_machine import LocalLauncher, Machine, Running, division
from suite.sweeps.overview import cells, failures, summary
from suite.sweeps.plan import Plan, of_seeds, plan
from suite.sweeps.question import Options, Question
from suite.sweeps.supervisor import Supervisor

GB = 10**9
COST = Cost(100.0, GB, 0, 0, GB, GB)


@pytest.fixture
def runs(tmp_path: Path) -> Plan:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1", "2"]}
    return plan("", {**given, "results": [str(tmp_path)]})


def folder(config: RunConfig) -> Path:
    path = RunDirectory(config).path
    path.mkdir(parents=True, exist_ok=True)
    return path


def finish(config: RunConfig) -> None:
    (folder(config) / "rows.parquet").write_bytes(b"rows")
    digest = hashlib.sha256(b"rows").hexdigest()
    result = {"run": config.name(), "mean_success": 0.5, "rows_sha256": digest}
    sealed = json.dumps({**result, "sha256": seal(result)})
    (folder(config) / "result.json").write_text(sealed)


def states_of(runs: Plan) -> list[State]:
    return [state(config) for config in runs.runs]


class Fake:
    """Ends each run with the next of its statuses; 0 leaves a result."""

    at_once = 1
    detaches = False

    def __init__(self, statuses: dict[int, list[int]]) -> None:
        self.statuses = statuses
        self.started: list[int] = []
        self.now: list[RunConfig] = []
        self.unfit: set[int] = set()

    def has_room(self, config: RunConfig) -> bool:
        return len(self.now) < self.at_once

    def never_fits(self, config: RunConfig) -> str:
        return "memory: too small" if config.seed in self.unfit else ""

    def start(self, config: RunConfig) -> None:
        self.started.append(config.seed)
        self.now.append(config)

    def ended(self) -> Iterable[tuple[RunConfig, int]]:
        for config in self.now:
            status = self.statuses.get(config.seed, [0]).pop(0)
            if status == 0:
                for run in config.each_seed():
                    finish(run)
            elif status not in (BUSY, 130):
                keep_failure(config, status, ["the last line"])
            yield config, status
        self.now = []

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSE", 0.001)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.0)


def supervised(runs: Plan, statuses: dict[int, list[int]]) -> tuple[int, list[int]]:
    fake = Fake(statuses)
    return Supervisor(runs, [COST] * len(runs.runs), states_of(runs), fake).run(), fake.started


@pytest.mark.parametrize(
    ("batched", "processes", "at_once"),
    [("False", 3, 3), ("True", 2, 6)],  # 8 runs in 8 processes, or in 3
)
def test_the_plan_is_made_for_as_many_at_once_as_the_launcher_has_room_for(
    batched: str,
    processes: int,
    at_once: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1", "2"]}
    axes = {"actor_width": ["7", "8", "9"], "batched": [batched], "results": [str(tmp_path)]}
    runs = plan("", {**given, **axes})
    runs = replace(runs, runs=runs.runs[:-1])
    fake, found, looked = Fake({}), [], []
    fake.at_once = processes

    def look(config: RunConfig) -> State:
        looked.append(config)
        return state(config)

    def carried_out(supervisor: Supervisor) -> int:
        found.append(supervisor.at_once)
        return 0

    for module in (command, supervisor):
        monkeypatch.setattr(module, "state", look)
    monkeypatch.setattr(command, "launcher", lambda *_: fake)
    monkeypatch.setattr(command, "check_disk", lambda *given: found.append(given[-1]))
    monkeypatch.setattr(Supervisor, "run", carried_out)
    assert command.sweep(Question(Options(launcher="ray"), runs)) == 0
    assert found == [at_once, at_once]
    assert f"with {at_once} at once" in capsys.readouterr().out
    assert len(looked) == len(runs.runs), "each state is read, and its rows hashed, once"


def test_runs_are_started_in_order_and_finished_ones_not_at_all(runs: Plan) -> None:
    finish(runs.runs[1])
    assert supervised(runs, {}) == (0, [0, 2])


def test_a_failure_is_final_and_counts_at_the_end(
    runs: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supervised(runs, {1: [1]}) == (1, [0, 1, 2])
    shown = capsys.readouterr().out
    assert f"failed: {runs.runs[1].name()} (exit status 1)\n    the last line\n" in shown
    assert "2 of 3 runs done" in shown
    # The next sweep tries it again.
    assert supervised(runs, {}) == (0, [1])


def test_a_run_that_can_never_fit_is_failed_and_the_others_are_trained(
    runs: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = Fake({})
    fake.unfit = {1}
    assert Supervisor(runs, [COST] * 3, states_of(runs), fake).run() == 1
    assert fake.started == [0, 2]
    shown = capsys.readouterr().out
    assert f"failed: {runs.runs[1].name()} (refused)\n    memory: too small\n" in shown
    assert "2 of 3 runs done" in shown


def test_a_run_that_the_disk_has_no_room_for_is_failed_and_the_others_are_trained(
    runs: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * GB))
    costs = [COST, COST._replace(disk=4 * GB), COST]
    fake = Fake({})
    check_disk(runs, costs, states_of(runs), 1)
    assert Supervisor(runs, costs, states_of(runs), fake).run() == 1
    assert fake.started == [0, 2]
    assert "disk: the run needs 4.0 GB, and" in capsys.readouterr().out


def test_seeds_that_do_not_fit_together_are_trained_one_by_one(tmp_path: Path) -> None:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1"]}
    runs = plan("", {**given, "results": [str(tmp_path)], "batched": ["True"]})

    class Small(Fake):
        def never_fits(self, config: RunConfig) -> str:
            return "memory: too small" if len(config.each_seed()) > 1 else ""

    fake = Small({})
    assert Supervisor(runs, [COST] * 2, states_of(runs), fake).run() == 0
    assert fake.started == [0, 1]


def test_what_a_machine_never_has_room_for_is_what_bench_refuses(runs: Plan) -> None:
    launcher = local(runs, Machine(2, 10**6), COST, "cpu")
    line = launcher.never_fits(runs.runs[0])
    assert line.startswith("memory: 1 tasks need for the replay")
    launcher.machine = Machine(2, 10**10)
    assert launcher.never_fits(runs.runs[0]) == ""
    on_gpu = replace(runs.runs[0], device="cuda")
    assert "and cuda has 0.0 GB" in launcher.never_fits(on_gpu)
    launcher.machine = Machine(2, 10**10, (("0", 10**10),))
    assert launcher.never_fits(on_gpu) == ""


def test_a_run_whose_folder_is_in_the_way_is_failed_and_stops_no_other(
    runs: Plan, tmp_path: Path
) -> None:
    (tmp_path / runs.runs[0].name()).write_text("a file")
    launcher = local(runs, Machine(2, 10**10), COST, "cpu")
    launcher.start(runs.runs[0])
    assert list(launcher.ended()) == [(runs.runs[0], 2)]
    assert list(launcher.ended()) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(2, "refused"), (3, "diverged"), (1, "exit status 1"), (-9, "killed by SIGKILL")],
)
def test_how_a_run_ended_in_words(status: int, words: str) -> None:
    assert meaning(status) == words


def test_a_killed_run_has_three_lives(runs: Plan) -> None:
    killed = -signal.SIGKILL
    assert supervised(runs, {0: [killed, killed, 0]}) == (0, [0, 1, 2, 0, 0])
    for config in runs.runs:
        (folder(config) / "result.json").unlink()
    assert supervised(runs, {2: [killed] * 3}) == (1, [0, 1, 2, 2, 2])


def test_a_run_that_could_leave_no_reason_is_reported_as_failed(
    runs: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise Failure("No space left on device")

    folder(runs.runs[0])
    monkeypatch.setattr(child, "write_atomically", full)
    assert supervised(runs, {0: [1], 1: [2], 2: [-signal.SIGKILL, 0]}) == (1, [0, 1, 2, 2])
    said = capsys.readouterr().out
    for config, reason in zip(runs.runs, ("exit status 1", "refused"), strict=False):
        assert f"failed: {config.name()} ({reason})\n    no reason could be written" in said
    assert runs.runs[2].name() not in said


def test_a_run_that_ended_well_without_a_result_is_reported_as_failed(
    runs: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As where a method's defaults are edited: the same words then stand for another run.
    ended = Fake.ended

    def astray(self: Fake) -> Iterable[tuple[RunConfig, int]]:
        for config, status in ended(self):
            if config.seed == 0:
                (folder(config) / "result.json").unlink()
            yield config, status

    monkeypatch.setattr(Fake, "ended", astray)
    assert supervised(runs, {}) == (1, [0, 1, 2])
    said = capsys.readouterr().out
    assert f"failed: {runs.runs[0].name()} (no result)\n    its process has trained another" in said
    assert runs.runs[1].name() not in said


def test_a_log_that_was_moved_away_is_said_where_its_last_lines_would_stand(tmp_path: Path) -> None:
    moved = Child.__new__(Child)
    moved.folder, moved.begin = tmp_path / "moved", 0
    (line,) = moved.last_lines()
    assert line.endswith("log.txt cannot be read: No such file or directory")


@pytest.mark.parametrize("batched", ["True", "False"])
def test_a_run_whose_job_was_cancelled_is_reported_and_not_started_again(
    batched: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1"]}
    runs = plan("", {**given, "results": [str(tmp_path)], "batched": [batched]})
    assert (
        supervised(runs, {0: [CANCELLED], 1: [CANCELLED]})[1] == [[0], [0, 1]][batched == "False"]
    )
    assert f"{runs.runs[0].name()} (its job was cancelled)" in capsys.readouterr().out


def test_seeds_that_fail_together_go_on_one_by_one(tmp_path: Path) -> None:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1", "2"]}
    runs = plan("", {**given, "results": [str(tmp_path)], "batched": ["True"]})
    finish(runs.runs[2])
    assert supervised(runs, {0: [1, 1]}) == (1, [0, 0, 1])
    assert [state(run).phase for run in runs.runs] == ["failed", "done", "done"]


def test_seeds_that_are_killed_together_have_three_lives_again_alone(tmp_path: Path) -> None:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1"]}
    runs = plan("", {**given, "results": [str(tmp_path)], "batched": ["True"]})
    killed = -signal.SIGKILL
    assert supervised(runs, {0: [killed] * 6}) == (1, [0, 0, 0, 0, 1, 0, 0])


def test_seeds_that_are_done_take_no_part_in_what_goes_on(tmp_path: Path) -> None:
    given = {"alg": ["mtsac"], "preset": ["smoke"], "tasks": ["reach"], "seed": ["0", "1", "2"]}
    runs = plan("", {**given, "results": [str(tmp_path)], "batched": ["True"]})
    finish(runs.runs[0])
    assert supervised(runs, {}) == (0, [1])
    started = of_seeds(runs.runs)
    share = Share(4)
    assert within(started, share).execution.threads == 4
    (folder(runs.runs[2]) / "provenance.json").write_text('[{"threads": 3}]')
    assert within(started, share).execution.threads == 3
    # Such as have begun differently go on one after the other, each as it began.
    (folder(runs.runs[1]) / "provenance.json").write_text('[{"threads": 2}]')
    assert within(started, share).execution.threads == 0


@pytest.mark.parametrize("status", [BUSY, 130])
def test_a_run_that_was_busy_or_stopped_comes_again(runs: Plan, status: int) -> None:
    assert supervised(runs, {0: [status] * 5 + [0]}) == (0, [0, 1, 2, 0, 0, 0, 0, 0])


def test_what_another_sweep_trains_is_waited_for(runs: Plan) -> None:
    theirs = runs.runs[0]
    lock = (folder(theirs) / "lock").open("a")
    assert locked(lock)

    class Theirs(Fake):
        def start(self, config: RunConfig) -> None:
            super().start(config)
            if config.seed == 2:  # the other sweep ends
                finish(theirs)
                lock.close()

    fake = Theirs({})
    assert Supervisor(runs, [COST] * 3, states_of(runs), fake).run() == 0
    assert fake.started == [1, 2]


def test_what_another_sweep_leaves_unfinished_is_taken_over(runs: Plan) -> None:
    lock = (folder(runs.runs[0]) / "lock").open("a")
    assert locked(lock)

    class Theirs(Fake):
        def start(self, config: RunConfig) -> None:
            super().start(config)
            lock.close()

    fake = Theirs({})
    assert Supervisor(runs, [COST] * 3, states_of(runs), fake).run() == 0
    assert sorted(fake.started) == [0, 1, 2]
    assert fake.started[0] == 1


# The state of a run --------------------------------------------------------------------------


def test_the_states_of_a_run(runs: Plan) -> None:
    config = runs.runs[0]
    assert state(config).phase == "waiting"
    path = folder(config)
    assert state(config).phase == "waiting"
    (path / "config.json").write_text("{}")
    progress = Progress("", 200, [path / "progress.json"])
    progress.begin(0)
    progress.step(50)
    progress.evaluated(50, [0.75])
    found = state(config)
    assert (found.phase, found.share, found.success) == ("stopped", 0.25, 0.75)
    assert found.steps_left == 150
    assert found.steps_per_second > 0
    keep_failure(config, -9, ["a", "b"])
    assert state(config)[0] == "failed"
    assert state(config)[-2:] == ("killed by SIGKILL", ("a", "b"))
    with (path / "lock").open("a") as file:
        assert locked(file)
        assert state(config).phase == "running"
    (path / "progress.json").write_text("{half")
    assert state(config).share == 0.0
    finish(config)
    assert state(config)[:3] == ("done", 1.0, 0.5)


def test_a_held_lock_is_a_run_that_is_busy(runs: Plan) -> None:
    first, second = RunDirectory(runs.runs[0]), RunDirectory(runs.runs[0])
    first.open()
    with pytest.raises(Busy) as refused:
        second.open()
    assert refused.value.status == BUSY == 75
    first.close()
    second.open()


def test_a_look_at_a_lock_keeps_no_run_out(runs: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    # It is held for an instant when somebody looks whether the run goes on.
    directory = RunDirectory(runs.runs[0])
    look = (folder(runs.runs[0]) / "lock").open("a")
    assert locked(look)
    monkeypatch.setattr("time.sleep", lambda _: look.close())
    directory.open()


def test_what_a_sweep_leaves_in_a_run_is_the_runs_own(runs: Plan) -> None:
    config = runs.runs[0]
    path = folder(config)
    for name in ("log.txt", "failure.json"):
        (path / name).write_text("{}")
    directory = RunDirectory(config)
    directory.open()  # though there is no config.json yet
    (path / "progress.json").write_text("{}")
    directory.close()
    clear([config])
    directory.open()
    assert {p.name for p in path.iterdir()} == {"lock", "log.txt", "config.json"}
    (path / "progress.json").write_text("{}")
    directory.tidy({"rows_sha256": ""})
    assert not (path / "progress.json").exists()


def test_a_full_disk_stops_no_run_for_its_progress(tmp_path: Path) -> None:
    progress = Progress("", 10, [tmp_path / "not there" / "progress.json"])
    progress.begin(0)
    progress.step(1)


# Shares of the machine -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "runs", "jobs", "expected"),
    [
        (16, 4, 0, (4, 4)),
        (2, 10, 0, (2, 1)),
        (16, 40, 8, (8, 2)),
        (2, 9, 5, (5, 1)),
        (3, 1, 0, (1, 3)),
    ],
)
def test_cores_are_divided_evenly(
    cores: int, runs: int, jobs: int, expected: tuple[int, int]
) -> None:
    assert division(Machine(cores, GB), runs, jobs) == expected


def test_a_run_keeps_the_threads_that_it_began_with(runs: Plan) -> None:
    config = runs.runs[0]
    fresh = within(config, Share(3)).execution
    assert (fresh.threads, fresh.workers) == (3, 3)
    (folder(config) / "provenance.json").write_text(json.dumps([{"threads": 999}]))
    resumed = within(config, Share(3))
    assert (resumed.execution.threads, resumed.execution.workers) == (0, 3)
    assert RunDirectory(resumed).threads() == 999
    check(resumed)  # 999 would be refused: too many for any machine, and nobody has asked for them
    chosen = replace(config, execution=replace(config.execution, threads=2, workers=5))
    assert within(chosen, Share(3)) == chosen


def local(runs: Plan, machine: Machine, cost: Cost, device: str, **limits: float) -> LocalLauncher:
    there = [replace(config, device=device) for config in runs.runs]
    return LocalLauncher(Plan("", "", tuple(there)), [cost] * 3, machine, **limits)  # type: ignore[arg-type]


def occupy(launcher: LocalLauncher, config: RunConfig, gpu: str = "") -> None:
    child: object = object()
    running = Running(child, launcher.costs[config.name()], gpu)  # type: ignore[arg-type]
    launcher.running[config.name()] = running


def test_memory_limits_the_runs_at_once_but_lets_one_always_run(runs: Plan) -> None:
    launcher = local(runs, Machine(8, 2 * GB), COST._replace(memory=GB), "cpu")
    first, second, _ = runs.runs
    assert launcher.at_once == 3
    assert launcher.has_room(first)
    occupy(launcher, first)
    assert not launcher.has_room(second)  # a tenth is kept free
    launcher.machine = Machine(8, 3 * GB)
    assert launcher.has_room(second)
    launcher.machine = Machine(8, 1000)
    launcher.running.clear()
    assert launcher.has_room(second)


def test_gpus_are_filled_evenly_and_as_far_as_their_memory_goes(runs: Plan) -> None:
    machine = Machine(16, 100 * GB, (("0", 10 * GB), ("1", 10 * GB)))
    launcher = local(runs, machine, COST._replace(gpu_memory=4 * GB), "cuda")
    first, second, third = (replace(config, device="cuda") for config in runs.runs)
    cost = launcher.costs[first.name()]
    assert launcher.gpu_for(cost) == "0"
    occupy(launcher, first, "0")
    assert launcher.gpu_for(cost) == "1"
    occupy(launcher, second, "1")
    assert launcher.gpu_for(cost) == "0"
    assert launcher.gpu_for(cost._replace(gpu_memory=6 * GB)) is None
    assert launcher.has_room(third)
    launcher.per_gpu = 1
    assert launcher.gpu_for(cost) is None
    assert not launcher.has_room(third)
    assert local(runs, machine, COST, "cuda", gpus_per_run=0.5).per_gpu == 2


def test_seeds_in_one_process_share_what_a_process_takes_and_nothing_else(runs: Plan) -> None:
    cost = Cost(100.0, 5 * GB, 3 * GB, 2 * GB, GB, GB)
    together = combined({run.name(): cost for run in runs.runs}, of_seeds(runs.runs))
    assert together == Cost(100.0, 9 * GB, 3 * GB, 6 * GB, 3 * GB, 3 * GB)


# What is shown -------------------------------------------------------------------------------


def test_time_left_is_measured_where_it_can_be(runs: Plan) -> None:
    half = State("running", 0.5, None, 10.0, 1000)
    assert seconds_left(half, COST) == 100.0
    assert seconds_left(State("stopped", 0.25), COST) == 75.0
    assert seconds_left(State("done", 1.0), COST) == 0.0
    # The running one is twice as slow as estimated, so the waiting ones will be.
    states = [half, State("waiting"), State("waiting")]
    assert sweep_seconds(states, [COST] * 3, 1) == pytest.approx(100 + 200 + 200)
    assert sweep_seconds(states, [COST] * 3, 3) == pytest.approx(200)


def test_a_row_and_the_summary_of_a_sweep(runs: Plan) -> None:
    states = [State("done", 1.0, 0.9), State("running", 0.5, 0.25, 10.0, 1000), State("waiting")]
    assert cells("run", states[0], COST) == ("run", "done", "100%", "0.90", "")
    assert cells("run", states[1], COST) == ("run", "running", "50%", "0.25", "1:40")
    assert summary(runs, states, [COST] * 3, 2) == (
        "1 of 3 done, 1 running, 1 waiting; about 3:20 left, 2 at once"
    )
    failed = State("failed", 0.1, reason="exit status 1", lines=("a", "b"))
    (folder(runs.runs[1]) / "log.txt").touch()
    lines = failures(runs, [states[0], failed, states[2]])
    assert lines[0] == f"failed: {runs.runs[1].name()} (exit status 1)"
    assert lines[1:3] == ["    a", "    b"]
    assert lines[3].endswith(f"{runs.runs[1].name()}/log.txt")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [("0", 4096), ("1", 8192)]),
        ("1, ", [("1", 8192)]),
        ("0, 1", [("0", 4096), ("1", 8192)]),
        ("GPU-bb", [("GPU-bb", 8192)]),
    ],
)
def test_gpus_are_those_that_are_visible(
    visible: str | None, expected: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "0, GPU-aa11, 4096\n1, GPU-bb22, 8192\n"
    listed = SimpleNamespace(stdout=told)
    monkeypatch.setattr(on_this_machine.subprocess, "run", lambda *_, **__: listed)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert on_this_machine.gpus() == tuple((name, mb * 2**20) for name, mb in expected)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES=MIG-7 names no GPU"):
        on_this_machine.gpus()
    listed.stdout = "0, GPU-aa11, [N/A]\n"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert on_this_machine.gpus() == (("0", on_this_machine.host_memory()),)
