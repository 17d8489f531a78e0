"""Events that a destination refuses are kept, each once, and can be tried again."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.delivery.ledger import ledger_path, load_ledger
from eventlog.delivery.letters import DeadLetters
from eventlog.errors import CheckpointError, SinkRejectedError
from eventlog.events import Note, UnknownEvent
from eventlog.sink import Batch, Entry
from tests.delivery.fakes import (
    CountingSink,
    Deaths,
    KeyedSink,
    RowSink,
    Store,
    TruncatingSink,
    all_entries,
    deliver,
    deliver_or_die,
    finished,
    key_of,
    put_log,
    put_odd_log,
    put_ranks,
)
from tests.logs import metrics, put

SINKS: list[Callable[..., KeyedSink]] = [KeyedSink, RowSink, TruncatingSink]
BAD = {3, 4, 11}


def is_bad(entry: Entry) -> bool:
    """Refuse some events of each writer."""
    return entry.event.seq in BAD


def letters(run: Path) -> DeadLetters:
    """Return the dead letters of *run*."""
    return DeadLetters(ledger_path(run, "fake", "d"))


def wanted(run: Path, refuses: Callable[[Entry], bool]) -> tuple[set[object], set[object]]:
    """Return the keys that should be there and those that should be refused."""
    entries = all_entries(run)
    return {key_of(e) for e in entries if not refuses(e)}, {key_of(e) for e in entries if refuses(e)}


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("names", [True, False])
def test_refused_events_become_letters_and_the_rest_arrives(
    tmp_path: Path, make: Callable[..., KeyedSink], names: bool
) -> None:
    """Exactly the bad ones are kept back, whether the sink names them or halving has to find them."""
    run, store = tmp_path / "p" / "run", Store()
    put_odd_log(run)

    done = deliver(run, make(store, refuses=is_bad, names=names))

    good, bad = wanted(run, is_bad)
    assert (set(store.keys), len(store.keys)) == (good, len(good))
    assert {letter.key for letter in letters(run).read()} == bad
    assert done.dead_letters == len(bad)


@settings(max_examples=40, deadline=None)
@given(
    bad=st.sets(st.integers(0, 19)), size=st.integers(1, 25), make=st.sampled_from([RowSink, TruncatingSink])
)
def test_halving_finds_any_set_of_bad_events(
    bad: set[int], size: int, make: Callable[..., KeyedSink]
) -> None:
    """Whichever events are bad and however large the batches are."""
    with tempfile.TemporaryDirectory() as root:
        run, store = Path(root) / "p" / "run", Store()
        put_log(run, finished(20))

        deliver(run, make(store, batch_events=size, names=False, refuses=lambda e: e.event.seq in bad))

        assert [key[1] for key in store.keys] == [seq for seq in range(20) if seq not in bad]
        assert {letter.seq for letter in letters(run).read()} == bad


def test_sink_that_names_events_of_another_batch_loses_nothing(tmp_path: Path) -> None:
    """Names that say nothing are as good as none: the bad ones are found by halving."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished(10))
    sink = KeyedSink(store)

    def refuse(batch: Batch) -> None:
        if any(entry.event.seq == 5 for entry in batch.entries()):
            raise SinkRejectedError("no", [("r9-nobody", 1)])

    sink.before_write = refuse
    deliver(run, sink)

    assert len(store.keys) == 9
    assert [letter.seq for letter in letters(run).read()] == [5]


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("names", [True, False])
def test_refusals_killed_at_any_point_are_kept_once(
    tmp_path: Path, make: Callable[..., KeyedSink], names: bool
) -> None:
    """After a death the refusal is repeated, and there is still one letter for each event."""
    for at in itertools.count(1):
        run, store = tmp_path / "p" / f"run-{at}", Store()
        put_log(run, finished(12))

        lived = deliver_or_die(run, make(store, refuses=is_bad, names=names, deaths=Deaths(at)))
        done = deliver(run, make(store, refuses=is_bad, names=names))

        found = letters(run).read()
        assert [key[1] for key in store.keys] == [0, 1, 2, 5, 6, 7, 8, 9, 10]
        assert sorted(letter.seq for letter in found) == [3, 4, 11]
        assert done.dead_letters == 3
        if lived:
            break


@pytest.mark.parametrize("make", [KeyedSink, TruncatingSink])
def test_refusal_that_is_taken_back_after_a_death_leaves_no_letter(
    tmp_path: Path, make: Callable[..., KeyedSink]
) -> None:
    """An event that arrived after all is not delivered once more by trying the letters again."""
    for at in itertools.count(1):
        run, store = tmp_path / "p" / f"run-{at}", Store()
        put_log(run, finished(12))

        lived = deliver_or_die(run, make(store, refuses=is_bad, deaths=Deaths(at)))
        deliver(run, make(store), retry_letters=True)

        assert sorted(key[1] for key in store.keys) == list(range(12))
        assert letters(run).read() == []
        if lived:
            break


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("names", [True, False])
def test_retried_letters_arrive_and_go(tmp_path: Path, make: Callable[..., KeyedSink], names: bool) -> None:
    """What is taken now is removed; what is refused again stays, and its tries are counted."""
    run, store = tmp_path / "p" / "run", Store()
    put_ranks(run, count=12)
    deliver(run, make(store, refuses=is_bad))

    done = deliver(run, make(store, refuses=lambda e: e.event.seq == 4, names=names), retry_letters=True)

    left = letters(run).read()
    good, _ = wanted(run, lambda e: e.event.seq == 4)
    assert (set(store.keys), len(store.keys)) == (good, len(good))
    assert [(letter.seq, letter.attempts) for letter in left] == [(4, 2), (4, 2)]
    assert done.dead_letters == 2


@pytest.mark.parametrize("make", SINKS)
@pytest.mark.parametrize("names", [True, False])
def test_retry_killed_at_any_point_goes_on(
    tmp_path: Path, make: Callable[..., KeyedSink], names: bool
) -> None:
    """A letter is delivered once, although the file and the ledger are two files."""
    for at in itertools.count(1):
        run, store = tmp_path / "p" / f"run-{at}", Store()
        log = put_log(run, finished(12))
        deliver(run, make(store, refuses=is_bad))
        put(run, 2, b"".join(log.segment(metrics(5))))

        def still_bad(entry: Entry) -> bool:
            return entry.event.seq == 4

        lived = deliver_or_die(
            run, make(store, refuses=still_bad, names=names, deaths=Deaths(at)), retry_letters=True
        )
        deliver(run, make(store, refuses=still_bad, names=names), retry_letters=True)

        assert sorted(key[1] for key in store.keys) == [seq for seq in range(17) if seq != 4]
        assert [letter.seq for letter in letters(run).read()] == [4]
        if lived:
            break


def test_retry_of_many_letters_sends_few_batches(tmp_path: Path) -> None:
    """Letters go in batches like everything else."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished(40))
    deliver(run, KeyedSink(store, refuses=lambda _: True))

    again = CountingSink(store)
    deliver(run, again, retry_letters=True)

    assert len(store.keys) == 40
    assert len(again.batches) == 1


def test_letters_hold_any_event(tmp_path: Path) -> None:
    """A letter gives back what was refused, also lines that this version cannot read."""
    run = tmp_path / "p" / "run"
    put_odd_log(run)
    entries = all_entries(run)
    broken = UnknownEvent(seq=7, ts=0, type="?", raw=b'{"seq":7,\r"ts":"x"}')
    no_json = UnknownEvent(seq=8, ts=0, type="?", raw=b'{"seq":8,oh')
    entries += [Entry("r0-x", 0, broken), Entry("r0-x", 0, no_json)]
    box = letters(run)

    count = box.add(entries, "no")

    back = [entry for letter in box.read() for entry in Batch([letter.as_slice()]).entries()]
    assert count == len(entries)
    assert [key_of(entry) for entry in back] == [key_of(entry) for entry in entries]
    known = [entry for entry in entries if not isinstance(entry.event, UnknownEvent)]
    assert [entry for entry in back if not isinstance(entry.event, UnknownEvent)] == known
    assert {entry.event.type for entry in back[-2:] if isinstance(entry.event, UnknownEvent)} == {"?"}


def test_letters_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    """Garbage is an error with the way out."""
    run = tmp_path / "p" / "run"
    box = letters(run)
    box.path.parent.mkdir(parents=True)
    box.path.write_bytes(b"{\n")

    with pytest.raises(CheckpointError, match="--restart"):
        box.read()


def test_letters_survive_the_ledger_that_forgot_to_count_them(tmp_path: Path) -> None:
    """The number of letters is that of the file."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished(12))
    deliver(run, KeyedSink(store, refuses=is_bad))
    lines = letters(run).path.read_bytes().splitlines(keepends=True)
    letters(run).path.write_bytes(b"".join(lines[:1]))

    done = deliver(run, KeyedSink(store), retry_letters=True)

    ledger = load_ledger(ledger_path(run, "fake", "d"))
    assert ledger is not None
    assert (done.dead_letters, ledger.dead_letters) == (0, 0)


def test_restart_forgets_the_letters(tmp_path: Path) -> None:
    """Everything is delivered anew, so nothing is refused yet."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished(12))
    deliver(run, KeyedSink(store, refuses=is_bad))

    done = deliver(run, KeyedSink(Store()), restart=True)

    assert done.dead_letters == 0
    assert not letters(run).path.exists()


def test_letter_of_a_large_event_has_its_content(tmp_path: Path) -> None:
    """An event whose payload lies in a file is kept whole."""
    run, store = tmp_path / "p" / "run", Store()
    put_odd_log(run)

    deliver(run, KeyedSink(store, refuses=lambda e: isinstance(e.event, Note)))

    (letter,) = letters(run).read()
    assert len(json.loads(bytes(letter.event))["text"]) == 2_000_000
