"""Whether two expressions are equal as algebra, found by sympy in a process of its own.

Sympy may think for ever and take all memory, and no thread can be stopped. So a child process answers: it
ends itself when a question takes longer than its time limit, and the next question starts another. It
builds the expressions from our own parse tree; sympy's parsers call ``eval`` and are never used.

Thread-safe; one question at a time.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING

from eventlog.errors import EvlogError
from eventlog.evaluation.benchmarks.latex import Node, is_small_power, parse

if TYPE_CHECKING:
    import sympy

TIME_LIMIT_S = 3.0
"""Of the processor, for one question."""
MEMORY_LIMIT_BYTES = 2 << 30
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    "from eventlog.evaluation.benchmarks.algebra import serve; serve(float(sys.argv[2]))"
)


class NoAlgebraError(EvlogError, ImportError):
    """Algebra was asked for, and sympy cannot be used."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return "Comparing answers as algebra needs sympy. Install it: pip install 'evlog[math]'"


class Algebra:
    """Asks a child process; starts it at the first question."""

    def __init__(self, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.time_limit_s = time_limit_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._finalize: weakref.finalize[..., object] | None = None

    def __call__(self, one: str, other: str) -> bool:
        """Tell whether two texts of the grammar in `latex` are equal; False if that was not found in time.

        Raises:
            NoAlgebraError: sympy cannot be imported.
        """
        with self._lock:
            try:
                child = self._child or self._start()
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write(json.dumps([one, other]) + "\n")
                child.stdin.flush()
                answer = child.stdout.readline()
            except OSError:  # it ended between two questions: killed from outside
                answer = ""
            if not answer:
                self._end()
            return answer == "equal\n"

    def close(self) -> None:
        """End the child process; another question starts it anew."""
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-c",
                _START,
                json.dumps([p for p in sys.path if p]),
                str(self.time_limit_s),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._child, self._finalize = child, weakref.finalize(self, _end, child)
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            self._end()
            raise NoAlgebraError
        return child

    def _end(self) -> None:
        if self._finalize is not None:
            self._finalize()
        self._child = self._finalize = None


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # a pipe that is broken already
                pipe.close()
    child.wait()


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Tell whether sympy can be used; imports it, in a child process."""
    try:
        return shared()("x", "x")
    except NoAlgebraError:
        return False


@lru_cache(maxsize=1)
def shared() -> Algebra:
    """Return the one child of this process."""
    return Algebra()


def serve(time_limit_s: float) -> None:
    """Answer the questions on standard input until it ends; run by the child."""
    if sys.platform == "win32":
        raise SystemExit("there are no limits for a process here, so nothing is worked out")
    import resource

    import sympy  # noqa: F401 - its import takes longer than the time limit may be

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends this process, whatever it is doing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    _say("ready")
    for line in sys.stdin:
        one, other = json.loads(line)
        # Processor time, so that what is found equal does not depend on how busy the machine is.
        signal.setitimer(signal.ITIMER_PROF, time_limit_s)
        answer = "equal" if _are_equal(one, other) else "different"
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(answer)


def _say(answer: str) -> None:
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()


def _are_equal(one: str, other: str) -> bool:
    nodes = parse(one), parse(other)
    if nodes[0] is None or nodes[1] is None:
        return False
    try:
        first, second = expression(nodes[0]), expression(nodes[1])
        if first.has(*_undefined()) or second.has(*_undefined()):
            return False
        # equals() tries numbers first, so that most wrong answers cost no algebra.
        return (first - second).equals(0) is True
    except Exception:  # sympy raises many kinds; then it has not found them equal, as the caller is told
        return False


def _undefined() -> tuple[object, ...]:
    import sympy

    return (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)


def expression(node: Node) -> sympy.Expr:
    """Return *node* for sympy.

    Raises:
        ValueError: a power or factorial in it is too large to be worked out.
    """
    import sympy

    kind, *parts = node
    if kind == "number":
        value = parts[0]
        return sympy.Rational(value.numerator, value.denominator)  # type: ignore[attr-defined]
    if kind == "name":
        constants = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I}
        return constants.get(str(parts[0])) or sympy.Symbol(str(parts[0]))
    if kind == "function":
        return _function(str(parts[0]), [expression(part) for part in parts[1:] if isinstance(part, tuple)])
    operands = [expression(part) for part in parts if isinstance(part, tuple)]
    return _operation(str(kind), operands)


def _operation(kind: str, operands: list[sympy.Expr]) -> sympy.Expr:
    import sympy

    first = operands[0]
    if kind == "add":
        return sympy.Add(*operands)
    if kind == "mul":
        return sympy.Mul(*operands)
    if kind == "abs":
        return sympy.Abs(first)
    if kind == "root":
        return sympy.root(first, operands[1])
    if kind == "factorial":
        if first.is_number and not (first.is_Integer and 0 <= first <= 200):
            raise ValueError(kind)
        return sympy.factorial(first)
    exponent = operands[1]
    if (
        first.is_Rational
        and exponent.is_Rational
        and not (exponent.q != 1 or is_small_power(first, exponent))
    ):
        raise ValueError(kind)
    if exponent.is_number and not exponent.is_Rational and abs(exponent.evalf(5)) > 1000:
        raise ValueError(kind)
    return sympy.Pow(first, exponent)


def _function(name: str, arguments: list[sympy.Expr]) -> sympy.Expr:
    import sympy

    if name == "log" and len(arguments) == 2:
        return sympy.log(arguments[0], arguments[1])
    names = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "ln": "log"}
    return getattr(sympy, names.get(name, name))(arguments[0])
