"""Signals become exceptions that are not lost, and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest

from vmfuzz.interrupts import cause_of, ending_at_once, held, listening


def interrupt(*_arguments: object) -> None:
    """Send Ctrl-C to this process; the handler runs before this function is over."""
    os.kill(os.getpid(), signal.SIGINT)


def in_the_collector() -> None:
    def callback(phase: str, _facts: object) -> None:
        if phase == "start":
            interrupt()

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


def in_a_finalizer() -> None:
    class Ends:
        def __del__(self) -> None:
            interrupt()

    Ends()


def in_a_weak_reference() -> None:
    class Referred:
        pass

    referred = Referred()
    reference = weakref.ref(referred, interrupt)
    del referred
    assert reference() is None


@pytest.mark.parametrize("place", [interrupt, in_the_collector, in_a_finalizer, in_a_weak_reference], ids=lambda place: place.__name__)
def test_ctrl_c_is_never_lost(place: Callable[[], None]) -> None:
    """Hypothesis has a callback in the collector; an exception in it is printed and dropped."""
    with listening() as heard:
        caught = None
        try:
            place()
            time.sleep(30)
        except KeyboardInterrupt as error:
            caught = error
    assert caught is not None
    assert cause_of(caught) == "Ctrl-C"
    assert heard.exit_code == 130


def test_sigterm_is_told_from_ctrl_c() -> None:
    with listening() as heard, pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard.exit_code == 143
    assert cause_of(KeyboardInterrupt()) == "Ctrl-C"


def test_the_handlers_of_before_are_there_again() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.unraisablehook
    with suppress(KeyboardInterrupt), listening(), ending_at_once():
        assert signal.getsignal(signal.SIGINT) is not before[0][0]
    assert before == ([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.unraisablehook)


def test_what_is_started_while_signals_are_held_never_gets_them() -> None:
    with listening(), held():
        process = subprocess.Popen(["sleep", "60"])
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_a_signal_that_was_held_comes_afterwards() -> None:
    steps = []

    def block() -> None:
        with held():
            interrupt()
            steps.append("held")
        steps.append("not reached")

    with listening(), pytest.raises(KeyboardInterrupt):
        block()
    assert steps == ["held"]


def test_a_signal_that_another_thread_takes_is_held_too() -> None:
    steps, over = [], threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()

    def block() -> None:
        with held():
            assert other.ident is not None
            signal.pthread_kill(other.ident, signal.SIGINT)
            time.sleep(0.2)
            steps.append("held")
        steps.append("not reached")

    try:
        with listening(), pytest.raises(KeyboardInterrupt):
            block()
    finally:
        over.set()
        other.join()
    assert steps == ["held"]
