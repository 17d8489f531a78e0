"""Finds out the environment of a job: interpreter, packages, variables and lock files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from eventlog.lineage.capture.child import Order, ProbeError, Say
from eventlog.lineage.capture.probes import locks
from eventlog.lineage.capture.probes.asking import ask
from eventlog.lineage.capture.probes.hardware import system_name
from eventlog.lineage.capture.probes.packages import describe
from eventlog.lineage.capture.probes.variables import allowed
from eventlog.lineage.credentials import without_credentials

TIMEOUT_S = 20.0
MAX_ANSWER_BYTES = 8 << 20


def probe(order: Order, say: Say) -> None:
    """Find out all of the ``environment`` context, and the lock files."""
    facts: dict[str, object] = {"host": os.uname().nodename, "os": system_name()}
    try:
        facts |= _python(order)
    except ProbeError as error:
        say.note(str(error))
    variables, left_out = allowed(os.environ, order.variables)
    facts["variables"] = variables
    if left_out:
        say.note(f"left out, for the names look like secrets: {', '.join(left_out)}")
    found, hashes = {}, {}
    for lock in locks.find(order, str(facts.get("prefix") or ""), say):
        say.artifact(lock.artifact, lock.sha256, source=lock.source, content=lock.content)
        found[lock.kind], hashes[lock.kind] = lock.artifact, lock.sha256
    say.context("environment", {**facts, "locks": found, "locks_sha256": hashes})


def _python(order: Order) -> dict[str, object]:
    """Describe the Python that the job runs in; ask it if that is not ours."""
    if order.interpreter is None:
        facts = describe(order.path) | {"executable": order.executable, "prefix": order.prefixes[0]}
    elif order.interpreter:
        from eventlog.lineage.capture.probes import packages

        source = Path(packages.__file__).read_text(encoding="utf-8")
        command = [order.interpreter, "-c", source]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        try:
            answer = ask(command, environment, max_bytes=MAX_ANSWER_BYTES, timeout_s=TIMEOUT_S)
            facts = json.loads(answer.data)
        except (ProbeError, ValueError) as error:
            raise ProbeError(f"{order.interpreter} does not tell its packages: {error}") from error
    else:
        raise ProbeError("which Python runs cannot be told from the command, so its packages are not listed")
    sources = facts["sources"]
    assert isinstance(sources, dict)
    return {**facts, "sources": {name: without_credentials(str(url)) for name, url in sources.items()}}
