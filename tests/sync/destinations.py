"""A package with sinks, installed as anybody's would be, and a way to look at what they got."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from eventlog import replay

NAME, OTHER = "files", "more"
"""Names of the sink that writes files and does as files beside them tell it; `needy` misses its package."""

_MODULE = '''
"""Sinks for tests. What one does is told by files in its directory, as `Faults` of the tests makes them."""

import json, os, sys, time
from pathlib import Path

from eventlog.errors import SinkRejectedError, SinkUnavailableError
from eventlog.events import Metrics, type_name
from eventlog.sink import Point, Traits
from eventlog.values import number_in_memory


class FileSink:
    def __init__(self, *, to, batch="20000", token=""):
        self.to = Path(to)
        self.traits = Traits(batch_events=int(batch))
        self.destination = os.fspath(self.to)

    def open(self, run):
        self.name = run.run_id
        self.act("open")
        path = self.file("jsonl")
        if path.exists():  # a line that a kill has cut
            path.write_text("".join(l for l in path.read_text().splitlines(True) if l.endswith("\\n")))
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {tuple(json.loads(line)[:2]) for line in lines}

    def write(self, batch):
        self.act("write")
        bad = [(e.writer, e.event.seq) for e in batch.entries() if type_name(e.event) == "alert"]
        with self.file("jsonl").open("a") as out:
            for entry in batch.entries():
                key = entry.writer, entry.event.seq
                if key in self.known or key in bad:
                    continue
                self.known.add(key)
                data = entry.event.data if isinstance(entry.event, Metrics) else None
                step = entry.event.step if isinstance(entry.event, Metrics) else None
                out.write(json.dumps([*key, type_name(entry.event), step, data]) + "\\n")
        if bad:
            raise SinkRejectedError("no alerts here", bad)

    def close(self, status):
        self.act("close")
        if status is not None:
            self.file("status").write_text(status.status)

    def file(self, kind):
        self.to.mkdir(parents=True, exist_ok=True)
        return self.to / f"{self.name}.{kind}"

    def is_told(self, what):
        return (self.to / what).exists() or (self.to / f"{what}-{self.name}").exists()

    def act(self, where):
        with self.file("calls").open("a") as out:
            out.write(f"{where} {os.getpid()}\\n")
        if self.is_told("down") or self.is_told(f"down-{where}"):
            raise SinkUnavailableError("the server is down")
        if self.is_told(f"fail-{where}"):
            raise RuntimeError(f"404 in {where}")
        if self.is_told(f"exit-{where}"):
            os._exit(7)
        if self.is_told(f"needs-{where}"):
            import no_such_package_anywhere
        if self.is_told("chatty"):
            print("x" * 300_000)
            print(json.dumps({"result": "failed", "sink": "fake", "dead_letters": 0}), flush=True)
        while self.is_told(f"hang-{where}"):
            time.sleep(0.01)
        if self.is_told("slow"):
            time.sleep(0.05)

    def expected(self, entries):
        for entry in entries:
            if isinstance(entry.event, Metrics):
                for key, value in entry.event.data.items():
                    yield Point(f"metric {key}", entry.event.step, number_in_memory(value))

    def delivered(self, run):
        self.name = run.run_id
        if self.is_told("down"):
            raise SinkUnavailableError("the server is down")
        path = self.file("jsonl")
        for line in path.read_text().splitlines() if path.exists() else ():
            _, _, kind, step, data = json.loads(line)
            for key, value in (data or {}).items():
                yield Point(f"metric {key}", step, number_in_memory(value))


class Needy:
    def __init__(self, *, to="", color=""):
        import no_such_package_anywhere
'''


def install(site: Path) -> Path:
    """Put the package into the directory *site*, which a search path has to hold, and return *site*."""
    info = site / "file_sinks-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: file-sinks\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        f"[eventlog.sinks]\n{NAME} = file_sinks:FileSink\n{OTHER} = file_sinks:FileSink\n"
        "needy = file_sinks:Needy\nunloadable = no_such_package_anywhere:Sink\n"
    )
    (site / "file_sinks.py").write_text(_MODULE)
    return site


class Delivered(NamedTuple):
    """What the directory *to* of the sink holds of a run."""

    to: Path
    name: str

    @property
    def events(self) -> list[tuple[str, int]]:
        """Return writer and seq of each event, in the order of their coming."""
        return [(writer, seq) for writer, seq, *_ in self._lines()]

    @property
    def steps(self) -> list[int]:
        """Return the steps of the metrics."""
        return [step for _, _, kind, step, _ in self._lines() if kind == "metrics"]

    @property
    def status(self) -> str:
        """Return what the sink was told of the run's end; empty if nothing yet."""
        path = self.to / f"{self.name}.status"
        return path.read_text() if path.exists() else ""

    @property
    def calls(self) -> list[tuple[str, int]]:
        """Return what was called, and the process that did."""
        path = self.to / f"{self.name}.calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    @property
    def processes(self) -> set[int]:
        """Return the processes that delivered."""
        return {pid for _, pid in self.calls}

    def is_all_of(self, run: Path) -> bool:
        """Tell whether each event of *run* is there once."""
        counts = Counter(seq for _, seq in self.events)
        wanted = Counter(event.seq for event in replay.events(run))
        return counts == wanted and len(set(self.events)) == len(self.events)

    def _lines(self) -> list[tuple[str, int, str, int, dict[str, float]]]:
        path = self.to / f"{self.name}.jsonl"
        text = path.read_text() if path.exists() else ""
        # Without the last one, if it is only being written.
        return [tuple(json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def tell(to: Path, what: str) -> Path:
    """Tell the sink in *to*: slow, chatty, down, or (down|fail|exit|hang|needs)-(open|write|close).

    With ``-<run>`` at the end it is for one run. Remove the file to take it back.
    """
    to.mkdir(parents=True, exist_ok=True)
    path = to / what
    path.touch()
    return path


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and not only waits for its parent to take notice of its end."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def processes_of(place: Path) -> list[int]:
    """Return the sidecars whose search path has something below *place*."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if b"eventlog.sidecar" in words and os.fsencode(place) in words and is_alive(int(directory.name)):
                found.append(int(directory.name))
    return found
