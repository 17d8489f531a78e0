"""Telling the flusher to look: whoever does it, in the middle of whatever."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from eventlog.storage.stream import Stream
from eventlog.storage.wake import Wake


def error_at(number: int, call: Callable[[], None]) -> KeyboardInterrupt | None:
    """Raise at the *number*-th step of *call*, a line or a return; give that as it comes out, if it does.

    Without the garbage collector: it would call others' code in the middle, and those steps would count.
    """
    steps = 0

    def strike(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        steps += event != "call"
        if steps == number:
            raise KeyboardInterrupt
        return strike

    before = sys.gettrace()
    gc.disable()
    sys.settrace(strike)
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
        gc.enable()
    return None


def test_who_waits_is_told_once_however_often_it_was_set() -> None:
    """And the next one waits for the next telling."""
    wake = Wake()
    for _ in range(1000):
        wake.set()

    assert [wake.wait(0) for _ in range(3)] == [True, False, False]

    wake.set()
    assert wake.wait(0)


def test_who_waits_already_is_woken_at_once() -> None:
    """Long before the time is over."""
    wake, told = Wake(), []
    waiting = threading.Thread(target=lambda: told.append(wake.wait(60)))
    waiting.start()

    wake.set()
    waiting.join(20)

    assert told == [True]


@pytest.mark.parametrize("is_awake", [True, False])
def test_error_that_strikes_while_the_flusher_is_told_shows_nothing_but_itself(is_awake: bool) -> None:
    """A user who presses Ctrl-C sees no error of ours above it, wherever in there it strikes."""
    errors: list[KeyboardInterrupt] = []
    while True:
        stream = Stream()
        if is_awake:
            stream.notify_flusher()
        error = error_at(len(errors) + 1, stream.notify_flusher)
        if error is None:
            break
        errors.append(error)

    assert len(errors) >= 4  # two functions, a line and a return each
    assert [error.__context__ for error in errors] == [None] * len(errors)


def test_handler_may_set_it_in_the_middle_of_setting() -> None:
    """A signal strikes between any two instructions of the main thread, which goes on with what it did."""
    wake, handled = Wake(), []

    def handle(*_: object) -> None:
        wake.set()
        handled.append(1)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while len(handled) < 100:
            wake.set()
            wake.wait(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    wake.wait(0)
    wake.wait(0)  # a handler may have found it empty in the middle of a setting that did, too
    assert not wake.wait(0)
