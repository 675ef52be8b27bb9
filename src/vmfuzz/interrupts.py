"""Ctrl-C and SIGTERM: each ends what runs with a KeyboardInterrupt that names it, is never lost, and never reaches helper processes.

Python delivers a signal as an exception between two instructions of whatever runs. During imports that leaves modules half made, so
there the process ends at once; in a callback of the garbage collector Python prints the exception and drops it, so it is raised again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: What the summary of something that was stopped calls its cause.
CTRL_C = "Ctrl-C"
SIGTERM = "SIGTERM"
_NAMES = {signal.SIGINT: CTRL_C, signal.SIGTERM: SIGTERM}
#: Seconds after which an exception that was dropped is raised again, when the callback that dropped it is over.
_AGAIN_AFTER = 0.05


class Heard:
    """The first of the two signals that came, if one did."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def exit_code(self) -> int | None:
        """130 after Ctrl-C, 143 after SIGTERM, as shells report them; None after neither."""
        return None if self.number is None else 128 + self.number


def cause_of(interrupt: KeyboardInterrupt) -> str:
    """What caused the exception: "Ctrl-C" or "SIGTERM"."""
    return str(interrupt) or CTRL_C


def end_at_once() -> None:
    """From now on both signals end the process, without a word. A signal that is ignored (`nohup`, `&` in a script) stays so."""
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: os._exit(128 + number))


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While the block runs both signals end the process: for imports."""
    with _restored():
        if _in_main_thread():
            end_at_once()
        yield


@contextmanager
def listening() -> Iterator[Heard]:
    """While the block runs both signals raise KeyboardInterrupt in the main thread, and the first one is noted."""
    heard = Heard()

    def hear(number: int, _frame: object) -> None:
        heard.number = heard.number or number
        raise KeyboardInterrupt(_NAMES[signal.Signals(number)])

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, KeyboardInterrupt) and heard.number is not None:
            over = threading.Event()
            threading.Thread(target=_raise_again, args=(heard.number, over)).start()
            over.set()  # not before: the start of a thread may take long, and an exception in this function would be dropped too
        else:
            before(what)

    before = sys.unraisablehook
    with _restored():
        if _in_main_thread():
            sys.unraisablehook = dropped
            for number in _NAMES:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, hear)
        try:
            yield heard
        finally:
            sys.unraisablehook = before


def _raise_again(number: int, over: threading.Event) -> None:
    """Interrupt the main thread once `over` is set, by a signal, since it has to wake what waits."""
    over.wait()
    time.sleep(_AGAIN_AFTER)
    if (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, number)


@contextmanager
def held() -> Iterator[None]:
    """Both signals wait until the block is over, and a process that is started in it never gets them.

    A terminal sends Ctrl-C, and a service manager SIGTERM, to helper processes too, which end when this process says so.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NAMES)
    came: list[int] = []
    try:
        with _restored():
            # the mask is this thread's: the kernel may give a signal to another one, and Python runs its handler in the main one
            if _in_main_thread():
                for number in _NAMES:
                    if signal.getsignal(number) is not signal.SIG_IGN:
                        signal.signal(number, lambda number, _frame: came.append(number))
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        if came:
            signal.raise_signal(came[0])


@contextmanager
def _restored() -> Iterator[None]:
    """The handlers of before are there again after the block."""
    before = {number: signal.getsignal(number) for number in _NAMES}
    try:
        yield
    finally:
        if _in_main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _in_main_thread() -> bool:
    """Whether handlers can be set here."""
    return threading.current_thread() is threading.main_thread()
