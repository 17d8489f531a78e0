"""What anybody may put into a file: it is an event, or it is named as none, and it never stops a reader."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import decode, decode_lines, seq_of
from eventlog.configuration import ConfigurationError, read_table
from eventlog.delivery.backlog import backlog
from eventlog.delivery.ledger import load_ledger
from eventlog.errors import BadValueError, CheckpointError
from eventlog.events import Checkpoint, Metrics, Note, PayloadRef, UnknownEvent
from eventlog.importers.sqlite import SourceDatabaseError, import_database
from eventlog.importers.text import read_text
from eventlog.importers.text.decoding import decode as text_of
from eventlog.projections import RunFold
from eventlog.query.prices import Prices
from eventlog.replay import events
from eventlog.storage.artifacts import load_payload
from eventlog.storage.merge import RunReader
from tests.logs import LogMaker, metrics, put
from tests.torture import mutants

SEEDS = st.integers(0, 2**32 - 1)
GOOD = b'{"seq":0,"ts":1,"type":"note","text":"x","crc":"00000000"}'
DEEP = b'{"seq":1,"ts":1,"type":"params","data":{"a":' + b"[" * 3000 + b"]" * 3000 + b"}}"
NO_TEXT = b'{"seq":1,"ts":1,"type":"note","text":"\xff"}'


@given(seed=SEEDS)
def test_line_is_an_event_or_refused_in_one_way(seed: int) -> None:
    """Whatever stands on a line, there is one kind of error for it."""
    line = mutants.line(random.Random(seed))

    try:
        event = decode(line)
    except msgspec.MsgspecError:
        return

    assert isinstance(event, msgspec.Struct)


@given(seeds=st.lists(SEEDS, max_size=5))
def test_each_line_is_one_event_among_others(seeds: list[int]) -> None:
    """A line that is none takes nothing from its neighbours, and none of them is taken for two."""
    lines = [GOOD, *(mutants.line(random.Random(seed)).replace(b"\n", b"") for seed in seeds), GOOD]

    events = decode_lines(lines)

    assert len(events) == len(lines)
    assert events[0] == events[-1] == Note(seq=0, ts=1, text="x")


@pytest.mark.parametrize("line", [DEEP, NO_TEXT], ids=["deep", "no text"])
def test_line_that_no_library_takes_is_refused_as_any_other(line: bytes) -> None:
    """A value nested thousands deep and bytes that are no text raise what a torn line raises."""
    with pytest.raises(msgspec.MsgspecError):
        decode(line)

    assert [type(event) for event in decode_lines([GOOD, line])] == [Note, UnknownEvent]


def test_lines_that_are_one_object_together_are_two_events() -> None:
    """A line that is not closed does not swallow the next one: places are counted in lines."""
    first, second = b'{"seq":0,"ts":1,"type":"note","x":{"crc":"00000000"}', b',"text":"y","crc":"00000000"}'

    assert len(decode_lines([first, second])) == 2


@pytest.mark.parametrize("digits", [b"9223372036854775808", b"9" * 24])
def test_seq_has_at_most_64_bits(digits: bytes) -> None:
    """A number that no other software can hold is no seq."""
    with pytest.raises(ValueError, match="seq"):
        seq_of(b'{"seq":%b,"ts":1}' % digits)


@pytest.mark.parametrize("text", ["prices = " + "[" * 3000 + "]" * 3000, "[prices]\nhost = " + "1" * 5000])
def test_configuration_that_no_library_takes_is_refused_as_any_other(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that nests thousands deep is a file that is not what it should be."""
    (tmp_path / "evlog.toml").write_text(text)
    monkeypatch.setenv("EVLOG_CONFIG", str(tmp_path / "evlog.toml"))

    with pytest.raises(ConfigurationError):
        read_table("prices", Prices)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_text_log(data: bytes) -> None:
    """An importer of text leaves out what it does not understand, and raises nothing."""
    understood = read_text(text_of(data))

    assert understood.lines >= 0


def _database(path: Path, size_mb: object) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE experiments (experiment_id TEXT, config TEXT);"
        "CREATE TABLE checkpoints (experiment_id TEXT, step INTEGER, checkpoint_path TEXT, size_mb);"
        "INSERT INTO experiments VALUES ('e', '{}');"
    )
    connection.execute("INSERT INTO checkpoints VALUES ('e', 1, 'model.pt', ?)", (size_mb,))
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize("size_mb", [float("inf"), 1e308, 1e300, -1.0])
def test_checkpoint_of_a_size_that_none_has_is_imported_without_it(size_mb: float, tmp_path: Path) -> None:
    """A cell that is no number of bytes costs that number, not the import."""
    source = _database(tmp_path / "a.db", size_mb)

    (told,) = import_database(source, tmp_path / "root").experiments

    (checkpoint,) = [e for e in events(tmp_path / "root" / "a" / told.run_id) if isinstance(e, Checkpoint)]
    assert checkpoint.size_bytes is None


@pytest.mark.parametrize(
    "text",
    [
        "| loss | acc |\n|---|---|\n| 0.1 | 0.2 |\n",
        "| name | value |\n|---|---|\n| | 20 |\n| acc | 0.2 |\n",
        f"epoch {'9' * 400} step 3/10 - loss: 0.3\n",
    ],
    ids=["plain table", "row without a name", "epoch larger than any float"],
)
def test_text_log_with_what_nobody_prints_is_read(text: str) -> None:
    """What cannot be a name or a number is passed over; the rest of the line counts."""
    found = read_text(text)

    assert {*found.keys, *found.final, *found.params} & {"loss", "acc"}


def test_metric_larger_than_any_float_is_left_out(tmp_path: Path) -> None:
    """Whoever folds a log goes on with what else it holds."""
    lines = LogMaker().segment([Metrics(step=0, data={"a": 10**400, "b": 1})], is_sealed=False)
    put(tmp_path, 1, b"".join(lines))
    fold = RunFold("project", "run")

    for part in RunReader(tmp_path).slices():
        fold.apply_slice(part.writer, part.rank, part.events)

    assert set(fold.metrics) == {"b"}


def test_ledger_that_nests_thousands_deep_is_refused_as_any_other(tmp_path: Path) -> None:
    """A checkpoint is a file, and files may hold anything."""
    path = tmp_path / "ledger.json"
    path.write_text('{"sink":"s","state":{"a":' + "[" * 3000 + "]" * 3000 + "}}")

    with pytest.raises(CheckpointError):
        load_ledger(path)


def test_payload_larger_than_memory_is_looked_at_in_pieces(tmp_path: Path) -> None:
    """What is not what was written is not read as a whole."""
    (tmp_path / "p").touch()
    os.truncate(tmp_path / "p", 1 << 40)

    with pytest.raises(BadValueError, match="changed"):
        load_payload(tmp_path, PayloadRef(path="p", size_bytes=64 << 20, sha256="0"))


def test_backlog_of_a_line_with_an_absurd_seq_counts_the_lines_before(tmp_path: Path) -> None:
    """A number that is none takes nothing from the others."""
    data = b"".join(LogMaker().segment(metrics(3), is_sealed=False))
    put(tmp_path, 1, data + b'{"seq":9999999999999999999999,"ts":1,"type":"note"}\n')

    assert backlog(tmp_path, {}).events == 3


def test_database_whose_own_words_are_no_text_is_refused(tmp_path: Path) -> None:
    """Damage where the names of tables stand is damage as anywhere else."""
    source = _database(tmp_path / "a.db", 1.0)
    source.write_bytes(
        source.read_bytes().replace(b"CREATE TABLE checkpoints", b"CREATE T\xffBLE checkpoints")
    )

    with pytest.raises(SourceDatabaseError):
        import_database(source, tmp_path / "root")
