"""Whatever happened to the logs, the tables say what a plain fold over the events says."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import HealthCheck, Phase, assume, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eventlog.codec import encode_fields
from eventlog.events import (
    Artifact,
    Context,
    Dropped,
    ErrorInfo,
    Event,
    Metrics,
    Note,
    Params,
    RunEnded,
    RunResumed,
    RunStarted,
    Summary,
    System,
    Tags,
)
from eventlog.query import merge, refresh, scan
from eventlog.storage.artifacts import spill
from eventlog.storage.layout import SegmentName, log_directory
from tests.logs import START_TS
from tests.query.histories import HistoryMaker, ask, fold

PROJECTS = ["p", 'it\'s "q"', "ü\n[x]*?"]
RUNS = ["r1", "r'2", "naïve\n*", "[abc]"]
KEYS = ["loss", "loss", "loss", "loss", "a/b", "it's", 'q"\n', "ü", "", "rank1/loss"]
NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, "NaN", "Infinity", "-Infinity", 1e308, 5e-324, (1 << 63) - 1, -(1 << 63)]),
    st.integers(-3, 3),
    st.floats(-10, 10),
)
STEPS = st.none() | st.integers(0, 5) | st.sampled_from([-(1 << 62), (1 << 63) - 1])
TEXTS = st.sampled_from(["x", "it's", 'q"\\', "\u0000 \n", "ü🎲", "", "NaN", "null", "1e5"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


class _Odd(Event, frozen=True, kw_only=True, tag="from_the_future"):
    """An event that nobody knows here."""

    what: object = None


class _OddMetrics(Event, frozen=True, kw_only=True, tag="metrics"):
    """Metrics of a foreign writer, with what is no number."""

    step: Any = None
    data: Any = None


METRICS = st.builds(
    Metrics, step=STEPS, data=st.dictionaries(st.sampled_from(KEYS), NUMBERS, min_size=1, max_size=3)
)
OTHERS = st.one_of(
    st.builds(
        RunStarted, name=TEXTS, experiment=st.none() | TEXTS, tags=st.dictionaries(TEXTS, st.none() | TEXTS)
    ),
    st.builds(RunResumed, reason=st.sampled_from(["resumed", "joined"])),
    st.builds(
        RunEnded,
        status=st.sampled_from(["finished", "failed"]),
        error=st.none() | st.builds(ErrorInfo, type=TEXTS, message=TEXTS),
        exit_code=st.none() | st.integers(0, 255),
    ),
    st.builds(Params, data=st.dictionaries(TEXTS, JSON, max_size=2)),
    st.builds(Summary, data=st.dictionaries(TEXTS, JSON, max_size=2)),
    st.builds(
        Tags, data=st.dictionaries(TEXTS, st.none() | TEXTS, max_size=2), removed=st.lists(TEXTS, max_size=1)
    ),
    st.builds(Note, text=TEXTS),
    st.builds(Artifact, name=TEXTS, path=TEXTS, version=st.integers(1, 3), size_bytes=st.none() | st.just(5)),
    st.builds(
        Context,
        kind=st.sampled_from(["git", "environment", "command"]),
        data=st.dictionaries(st.sampled_from(["host", "commit", "x"]), JSON),
    ),
    st.builds(
        Context,
        kind=st.just("hardware"),
        data=st.sampled_from(
            [
                {"host": "a", "gpus": []},
                {"host": "b", "gpus": [{"name": "x"}, {"name": "x"}]},
                {"host": "c", "gpus": [{"name": "y"}]},
            ]
        ),
    ),
    st.builds(System, data=st.sampled_from([{"energy_kwh": 0.5}, {"energy_kwh": 2.0}, {"cpu/percent": 3}])),
    st.builds(Dropped, counts=st.just({"metrics": 3}), reason=TEXTS, first_ts=st.just(1), last_ts=st.just(2)),
    st.builds(_Odd, what=JSON),
    st.just(Metrics()),
)
ODD = st.sampled_from([
    _OddMetrics(step=1 << 70, data={"loss": 10**400, "a/b": 1}),
    _OddMetrics(step=1, data={"loss": "high", "a/b": 2}),
    _OddMetrics(step=1, data={"loss": None}),
    _OddMetrics(step="one", data={"loss": 1.0}),
    _OddMetrics(step=1, data={"loss": True}),
    _OddMetrics(step=1, data=[1]),
])  # fmt: skip


@st.composite
def histories(draw: Any, kind: str) -> list[Event]:
    """Return some events whose clock may be set back."""
    kinds = METRICS | METRICS | OTHERS | (ODD if kind == "foreign" else METRICS)
    events = draw(st.lists(kinds, min_size=0, max_size=8))
    times = draw(st.lists(st.integers(-3, 5), min_size=len(events), max_size=len(events)))
    ts, timed = START_TS + draw(st.integers(0, 10)), []
    for event, by in zip(events, times, strict=True):
        ts += by
        timed.append(msgspec.structs.replace(event, ts=ts))
    return timed


class Cache(RuleBasedStateMachine):
    """Logs are written, damaged, moved and deleted in any order; the cache is asked now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="evlog-fold-"))
        self.makers: dict[tuple[str, str], list[HistoryMaker]] = {}
        self.growing: list[tuple[Path, bytes]] = []
        self.count = 0
        self.patches = [
            patch.object(refresh, "CHUNK_LINES", 3),
            patch.object(refresh, "COMMIT_BYTES", 600),
            patch.object(refresh, "ALL_BYTES", 1500),
            patch.object(refresh, "STEP_BYTES", 2000),
            patch.object(merge, "SMALL_BYTES", 4000),
            patch.object(merge, "MANY", 3),
            patch.object(merge, "MANY_OF_RUNS", 2),
            patch.object(scan, "RACY_NS", 0),
        ]
        for one in self.patches:
            one.start()

    def teardown(self) -> None:
        try:
            self._check(wants_all=False)
            self._check(wants_all=True)
        finally:
            for one in self.patches:
                one.stop()
            shutil.rmtree(self.root)

    @rule(
        data=st.data(),
        project=st.sampled_from(PROJECTS),
        run=st.sampled_from(RUNS),
        rank=st.integers(0, 2),
        kind=st.sampled_from(["ours", "ours", "running", "foreign"]),
    )
    def start_a_writer(self, data: Any, project: str, run: str, rank: int, kind: str) -> None:
        """Somebody begins to log into a run, new or not."""
        self.count += 1
        writer = f"r{rank}-01KAHCZG0000000000000{self.count:05d}"
        with_crc = data.draw(st.booleans())
        maker = HistoryMaker(writer, kind=kind, start_ts=START_TS + self.count, with_crc=with_crc)
        self.makers.setdefault((project, run), []).append(maker)
        self._write(data, project, run, maker)

    @rule(data=st.data())
    def go_on(self, data: Any) -> None:
        """A writer begins its next segment."""
        assume(self.makers)
        project, run = data.draw(st.sampled_from(sorted(self.makers)))
        self._write(data, project, run, data.draw(st.sampled_from(self.makers[(project, run)])))

    def _write(self, data: Any, project: str, run: str, maker: HistoryMaker) -> None:
        self._finish(maker)
        path = self.root / project / run
        events = [self._aside(path, event, data) for event in data.draw(histories(maker.kind))]
        lines = maker.lines(events, is_sealed=data.draw(st.booleans()))
        what = data.draw(st.sampled_from(["whole", "whole", "whole", "flipped", "lost", "torn", "grows"]))
        data_bytes = b"".join(lines)
        file = SegmentName(maker.writer, maker._segment).path(log_directory(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        note(f"{file} {what} {maker.kind} {maker.with_crc}")
        if what == "flipped":
            at = data.draw(st.integers(0, len(data_bytes) - 1))
            data_bytes = data_bytes[:at] + bytes([data_bytes[at] ^ 1]) + data_bytes[at + 1 :]
        elif what == "lost":
            return
        elif what == "torn":
            data_bytes = data_bytes[: data.draw(st.integers(0, len(data_bytes)))]
        elif what == "grows":
            at = data.draw(st.integers(0, len(data_bytes)))
            self.growing.append((file, data_bytes[at:]))
            data_bytes = data_bytes[:at]
        file.write_bytes(data_bytes)

    def _aside(self, path: Path, event: Event, data: Any) -> Event:
        """Put the fields of some events into files of their own, as large ones are; lose some."""
        if not isinstance(event, (Params, Metrics, Note)) or data.draw(st.integers(0, 9)):
            return event
        reference = spill(path, "event", encode_fields(event))
        if data.draw(st.integers(0, 3)) == 0:
            (path / reference.path).write_bytes(b"gone")
        return type(event)(ts=event.ts, payload=reference)

    def _finish(self, maker: HistoryMaker) -> None:
        for one in [one for one in self.growing if one[0].name.startswith(maker.writer)]:
            self._grow(one, len(one[1]))

    def _grow(self, one: tuple[Path, bytes], count: int) -> None:
        self.growing.remove(one)
        path, rest = one
        with path.open("ab") as file:
            file.write(rest[:count])
        if rest[count:]:
            self.growing.append((path, rest[count:]))

    @rule(data=st.data())
    def grow(self, data: Any) -> None:
        """More of a segment arrives."""
        assume(self.growing)
        one = data.draw(st.sampled_from(self.growing))
        self._grow(one, data.draw(st.integers(1, max(1, len(one[1])))))

    @rule(data=st.data(), project=st.sampled_from(PROJECTS), run=st.sampled_from(RUNS))
    def move(self, data: Any, project: str, run: str) -> None:
        """A run is renamed, over another one if that has the name."""
        assume(self.makers)
        old = data.draw(st.sampled_from(sorted(self.makers)))
        assume(old != (project, run))
        self._delete((project, run))
        target = self.root / project / run
        target.parent.mkdir(exist_ok=True)
        if (self.root / old[0] / old[1]).exists():
            (self.root / old[0] / old[1]).rename(target)
        self.makers[(project, run)] = self.makers.pop(old)
        moved = self.root / old[0] / old[1]
        self.growing = [
            (target / path.relative_to(moved) if path.is_relative_to(moved) else path, rest)
            for path, rest in self.growing
        ]

    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        """A run is deleted."""
        assume(self.makers)
        self._delete(data.draw(st.sampled_from(sorted(self.makers))))

    def _delete(self, key: tuple[str, str]) -> None:
        path = self.root / key[0] / key[1]
        self.makers.pop(key, None)
        self.growing = [one for one in self.growing if not one[0].is_relative_to(path)]
        if path.exists():
            shutil.rmtree(path)

    @rule(data=st.data())
    def lose_a_segment(self, data: Any) -> None:
        """Somebody removes a segment."""
        assume(self.makers)
        project, run = data.draw(st.sampled_from(sorted(self.makers)))
        segments = sorted(log_directory(self.root / project / run).glob("*.jsonl"))
        assume(segments)
        path = data.draw(st.sampled_from(segments))
        self.growing = [one for one in self.growing if one[0] != path]
        path.unlink()

    @rule()
    def forget_the_cache(self) -> None:
        """The cache is deleted."""
        shutil.rmtree(self.root / ".evlog", ignore_errors=True)

    @rule(wants_all=st.booleans())
    def ask_all(self, wants_all: bool) -> None:
        """Every table says what the fold says."""
        self._check(wants_all=wants_all)

    def _check(self, *, wants_all: bool) -> None:
        found, wanted = ask(self.root, wants_all=wants_all), fold(self.root)
        for table, rows in wanted.items():
            assert found[table] == rows, table

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """No scratch directory stays."""
        assert not list(self.root.glob(".evlog/cache/.scratch-*"))


TestCache = Cache.TestCase
TestCache.settings = settings(
    max_examples=int(os.environ.get("EVLOG_EXAMPLES", "25")),
    stateful_step_count=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
