"""A first signal asks for an end, a second one forces it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from suite.interrupt import Interrupt


def deliver(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python runs handlers between bytecodes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_sets_a_flag_and_says_so(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with Interrupt() as interrupt:
        assert not interrupt.requested
        deliver(number)
        assert interrupt.requested
    message = capsys.readouterr().err
    assert "stopping after this episode" in message
    assert "once more" in message


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once(second: signal.Signals) -> None:
    with Interrupt() as interrupt:
        deliver(signal.SIGINT)
        if second == signal.SIGTERM:
            interrupt.first -= 3  # a second Ctrl-C need not wait
        with pytest.raises(KeyboardInterrupt):
            deliver(second)


def test_a_scheduler_that_signals_twice_at_once_makes_one_request() -> None:
    with Interrupt() as interrupt:
        deliver(signal.SIGTERM)
        deliver(signal.SIGTERM)
        assert interrupt.requested


def test_the_handlers_of_before_are_put_back() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) not in before
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_later_run_in_the_same_process_starts_unrequested() -> None:
    with Interrupt():
        deliver(signal.SIGINT)
    with Interrupt() as later:
        assert not later.requested
