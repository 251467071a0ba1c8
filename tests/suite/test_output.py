"""What is printed where nobody takes it: the work is done all the same, and a loss is known."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from smoke_runs import smoke_arguments

from suite.output import Output, kept_going

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "suite"]


def test_a_run_whose_reader_has_gone_is_trained_to_its_end(tmp_path: Path) -> None:
    # `bench … | head -1`, where the locale's alphabet lacks what is printed, too.
    process = subprocess.Popen(
        [*COMMAND, *smoke_arguments("mtsac", tmp_path), "--track", "none"],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    assert b"tasks \\u2192 " in process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    assert len(list(tmp_path.glob("*/result.json"))) == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_cannot_be_written_is_no_success(stream: str) -> None:
    with open("/dev/full", "w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        arguments = ["--help"] if stream == "stdout" else ["no-such-command"]
        done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, text=True, **streams)  # type: ignore[call-overload]
    assert done.returncode == (1 if stream == "stdout" else 2)
    if stream == "stdout":
        assert done.stderr == "error: output: could not be written: No space left on device\n"


def test_streams_that_are_closed_are_no_failure() -> None:
    shell = f"{sys.executable} -m suite no-such-command >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", shell], cwd=ROOT).returncode == 2


def test_what_an_alphabet_lacks_is_written_as_its_number() -> None:
    buffer = io.BytesIO()
    stream = Output(io.TextIOWrapper(buffer, encoding="latin-1"))
    assert stream.write("é → \udc80") == 5
    stream.flush()
    assert buffer.getvalue() == b"\xe9 \\u2192 \\udc80"


def test_only_a_loss_is_told_and_the_streams_are_put_back() -> None:
    before = (sys.stdout, sys.stderr)
    with kept_going() as lost:
        print("taken")
    assert lost == []
    assert (sys.stdout, sys.stderr) == before
