"""How processes end that log, at their top: so the end goes through all that the interpreter does."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from tests.torture.process_lives import Finalized, Life
from tests.torture.process_notes import AT_EXIT, FINALIZER, FIRST_THREAD


def live(life: Life) -> int:
    """Log, and end; the return value is the exit code if it comes to that."""
    life.notes.expect(None, "crashed")
    atexit.register(life.stop)  # the first one: it is called last
    prepare, finish = ENDS[life.end]
    prepare(life)
    life.begin()
    return finish(life)


def nothing(life: Life) -> None:
    """Prepare nothing."""


def end_run(life: Life) -> int:
    """End the run as it should be."""
    life.settle()
    life.notes.expect(0, "finished")
    life.tracker.end_run()
    return 0


def leave(life: Life) -> int:
    """End the program without ending the run."""
    life.settle()
    life.notes.expect(0, "killed")
    return 0


def fail(life: Life) -> int:
    """Let an exception end the program."""
    life.settle()
    life.notes.expect(1, "failed")
    raise RuntimeError("as it should")


def fail_in_block(life: Life) -> int:
    """Let an exception leave the run's block, and catch it outside."""
    life.settle()
    life.notes.expect(0, "failed")
    try:
        with life.tracker:
            raise RuntimeError("as it should")
    except RuntimeError:
        return 0


def system_exit(life: Life) -> int:
    """Leave by SystemExit, out of the run's block or without one."""
    life.settle()
    code = life.chance.choice([0, 3])
    if life.chance.random() < 0.5:
        life.notes.expect(code, "killed")
        raise SystemExit(code)
    life.notes.expect(code, "failed" if code else "finished")
    with life.tracker:
        sys.exit(code)


def system_exit_in_thread(life: Life) -> int:
    """End a thread by SystemExit, which ends nothing else."""
    thread = threading.Thread(target=lambda: (life.log(FIRST_THREAD - 1), sys.exit(5)))
    thread.start()
    thread.join()
    return end_run(life)


def os_exit(life: Life) -> int:
    """End at once, with everything as it is."""
    life.notes.expect(7, "crashed")
    os._exit(7)


def os_exit_in_thread(life: Life) -> int:
    """End at once, in the middle of the main thread's calls."""
    life.notes.expect(8, "crashed")
    life.start(lambda: (life.log(FIRST_THREAD - 1), os._exit(8)))
    life.log_on()
    return 1


def wait_for_the_end(life: Life) -> int:
    """Log until a signal with its default action comes."""
    life.log_on()
    return 1


def catch_sigterm(life: Life) -> None:
    """Have a handler of one's own, which lets the loop end."""

    def mine(number: int, frame: object) -> None:
        life.log(AT_EXIT)
        life.is_over = True

    signal.signal(signal.SIGTERM, mine)


def stop_at_sigterm(life: Life) -> int:
    """Log until the handler says that it is over, and end the run."""
    life.log_on()
    return end_run(life)


def raise_at_sigterm(life: Life) -> None:
    """Have a handler that raises SystemExit, in the middle of whatever goes on."""

    def mine(number: int, frame: object) -> None:
        life.notes.freeze()
        life.notes.expect(4, "killed")
        raise SystemExit(4)

    signal.signal(signal.SIGTERM, mine)


def interrupt(life: Life) -> int:
    """Log until Ctrl-C ends the program."""
    life.log_on()
    return 1


def interrupt_often(life: Life) -> int:
    """Catch Ctrl-C a few times, in the middle of calls, and end the run."""
    for _ in range(life.chance.randrange(1, 6)):
        with contextlib.suppress(KeyboardInterrupt):
            life.log_on()
        life.notes.set_ready(False)
    return end_run(life)


def exit_in_atexit(life: Life) -> None:
    """Register a handler that ends the process before or after the run was ended at exit."""
    is_before = life.chance.random() < 0.5

    def mine() -> None:
        life.notes.freeze()
        life.notes.expect(5, "killed" if is_before else "crashed")
        os._exit(5)

    if is_before:
        atexit.register(mine)
    else:
        # After our first run, so it is called before ours.
        life.tracker.start_run("first")
        life.tracker.end_run()
        atexit.register(mine)


def log_in_atexit(life: Life) -> None:
    """Log in handlers of which one runs before the run is ended at exit, and one after."""
    atexit.register(life.log, FINALIZER)
    life.tracker.start_run("first")
    life.tracker.end_run()

    def mine() -> None:
        life.log(AT_EXIT)
        life.notes.freeze()

    atexit.register(mine)


def leave_quietly(life: Life) -> int:
    """End the program; what is registered does the rest."""
    life.is_over = life.chance.random() < 0.5
    if life.end != "logging in atexit":
        life.notes.freeze()
    life.notes.expect(0, "killed")
    return 0


def raise_in_atexit(life: Life) -> None:
    """Raise in a handler at exit."""

    def mine() -> None:
        raise SystemExit(6)

    atexit.register(mine)


def log_in_the_end(life: Life) -> int:
    """Log in a finalizer that the interpreter's own end calls."""
    life.settle()
    life.notes.expect(0, "killed")
    sys.modules["__main__"].__dict__["_last"] = Finalized(life)
    return 0


ENDS: dict[str, tuple[Callable[[Life], None], Callable[[Life], int]]] = {
    "end_run": (nothing, end_run),
    "return": (nothing, leave),
    "exception": (nothing, fail),
    "exception in a block": (nothing, fail_in_block),
    "SystemExit": (nothing, system_exit),
    "SystemExit in a thread": (nothing, system_exit_in_thread),
    "os._exit": (nothing, os_exit),
    "os._exit in a thread": (nothing, os_exit_in_thread),
    "SIGTERM": (nothing, wait_for_the_end),
    "SIGTERM twice": (nothing, wait_for_the_end),
    "SIGTERM caught": (catch_sigterm, stop_at_sigterm),
    "SIGTERM that raises": (raise_at_sigterm, wait_for_the_end),
    "SIGINT": (nothing, interrupt),
    "SIGINT caught": (nothing, interrupt_often),
    "os._exit in atexit": (exit_in_atexit, leave_quietly),
    "logging in atexit": (log_in_atexit, leave_quietly),
    "SystemExit in atexit": (raise_in_atexit, leave),
    "logging in __del__": (nothing, log_in_the_end),
}
