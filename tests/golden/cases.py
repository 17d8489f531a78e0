"""Logs of format 1, whole and damaged byte by byte: how each was made. They are made once, see `make`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec

from eventlog import events as ev
from eventlog.codec import close_line, encode_line
from eventlog.storage.artifacts import spill
from eventlog.storage.cursor import Checkpoint, Cursor
from tests.golden.reading import CHECKPOINT
from tests.golden.registry import CASES, Make, case
from tests.logs import START_TS, WRITER_A, WRITER_B, LogMaker, metrics, put

RESUMED = "r0-01KAHD0000000000000000C000"


def _life(count: int) -> list[ev.Event]:
    return [
        ev.RunStarted(name="golden", tags={"team": "x", "best": None}),
        ev.Params(data={"lr": 0.001, "layers": [1, 2], "nested": {"a": None}}),
        *metrics(count),
        ev.Note(text="für immer\n\u0000 and \ud7ff"),
        ev.Summary(data={"loss": "NaN", "at": 3}),
    ]


def _three(run: Path, change: Callable[[list[list[bytes]]], None], *, is_sealed: bool = True) -> None:
    """Write a log of three segments after *change* of their lines."""
    maker = LogMaker()
    segments = [maker.segment(_life(3)), maker.segment(metrics(5, start=3))]
    segments.append(maker.segment(metrics(3, start=8), is_sealed=is_sealed, reason="ended"))
    change(segments)
    for number, lines in enumerate(segments, 1):
        if lines:
            put(run / "run", number, b"".join(lines))


def _leave(segments: list[list[bytes]]) -> None:
    """Change nothing."""
    del segments


# --- whole ----------------------------------------------------------------------------------


@case
def sealed(run: Path) -> None:
    _three(run, _leave)


@case
def without_a_seal(run: Path) -> None:
    _three(run, _leave, is_sealed=False)


@case
def two_ranks(run: Path) -> None:
    for writer, start in ((WRITER_A, START_TS), (WRITER_B, START_TS + 1500)):
        maker = LogMaker(writer, start_ts=start)
        put(run / "run", 1, b"".join(maker.segment(_life(4))), writer=writer)


@case
def resumed(run: Path) -> None:
    first, second = LogMaker(WRITER_A), LogMaker(RESUMED, start_ts=START_TS + 60_000_000)
    lines = first.segment(_life(3), is_sealed=False)
    put(run / "run", 1, b"".join(lines)[:-7])
    again = [ev.RunResumed(reason="resumed"), *metrics(3, start=2), ev.RunEnded(status="finished")]
    put(run / "run", 1, b"".join(second.segment(again, reason="ended")), writer=RESUMED)


@case
def clock_that_went_back(run: Path) -> None:
    events = [msgspec.structs.replace(e, ts=START_TS - 1000 * at) for at, e in enumerate(metrics(5))]
    put(run / "run", 1, b"".join(LogMaker().segment(events)))
    put(run / "run", 1, b"".join(LogMaker(WRITER_B).segment(metrics(5))), writer=WRITER_B)


@case
def unknown_types_and_fields(run: Path) -> None:
    lines = LogMaker().segment(metrics(1), is_sealed=False)
    crc = int(lines[-1][-11:-3], 16)
    bodies = (
        b'{"seq":1,"ts":1763700000002000,"type":"telepathy","thought":{"deep":[1,2,{"x":"\\u00fc"}]}',
        b'{"seq":2,"ts":1763700000002001,"type":"metrics","step":1,"data":{"loss":1.5},"unit":"nat"',
        b'{"seq":3,"ts":1763700000002002,"type":"metrics","step":"one","data":{"loss":1.5}',
        b'{"seq":4,"ts":1763700000002003,"type":"note","text":"last"',
    )
    for body in bodies:
        line, crc = close_line(body, crc)
        lines.append(line)
    put(run / "run", 1, b"".join(lines))


@case
def newer_format(run: Path) -> None:
    maker = LogMaker()
    put(run / "run", 1, b"".join(maker.segment(metrics(2))))
    put(run / "run", 2, b"".join(maker.segment(metrics(2, start=2), format=2)))


@case
def without_checksums(run: Path) -> None:
    lines = LogMaker().segment(_life(2), is_sealed=False)
    put(run / "run", 1, b"".join(line[:-19] + b"}\n" for line in lines))


@case
def header_without_its_checksum(run: Path) -> None:
    lines = LogMaker().segment(_life(2))
    lines[0] = lines[0][:-19] + b"}\n"
    put(run / "run", 1, b"".join(lines))


@case
def numbers_that_were_skipped(run: Path) -> None:
    lines = LogMaker().segment(metrics(2), is_sealed=False)
    crc = int(lines[-1][-11:-3], 16)
    for seq in (7, 8, 20):
        line, crc = encode_line(metrics(1, start=seq)[0], seq=seq, ts=START_TS + seq, seed=crc)
        lines.append(line)
    put(run / "run", 1, b"".join(lines))


# --- bytes ----------------------------------------------------------------------------------


def _flip(segment: int, line: int, at: int, bit: int) -> Make:
    def make(run: Path) -> None:
        def change(segments: list[list[bytes]]) -> None:
            changed = bytearray(segments[segment - 1][line])
            changed[at] ^= 1 << bit
            segments[segment - 1][line] = bytes(changed)

        _three(run, change)

    return make


CASES["flipped-bit-in-a-body"] = _flip(2, 2, 40, 3)
CASES["flipped-bit-in-a-checksum"] = _flip(2, 2, -4, 5)
CASES["flipped-newline"] = _flip(2, 2, -1, 4)
CASES["flipped-bit-in-a-header"] = _flip(2, 0, 30, 0)
CASES["flipped-bit-in-a-seal"] = _flip(2, -1, 60, 0)
CASES["flipped-bit-in-the-last-seal"] = _flip(3, -1, 60, 0)


@case
def torn_tail(run: Path) -> None:
    _three(run, lambda s: s[2].append(s[2].pop()[:50]), is_sealed=False)


@case
def tail_of_zeros(run: Path) -> None:
    _three(run, lambda s: s[2].append(s[2].pop()[:50] + bytes(400)), is_sealed=False)


@case
def last_segment_of_zeros_only(run: Path) -> None:
    _three(run, lambda s: s.__setitem__(2, [bytes(300)]))


@case
def page_of_zeros(run: Path) -> None:
    def change(segments: list[list[bytes]]) -> None:
        data = b"".join(segments[1])
        segments[1] = [data[:400], bytes(200), data[600:]]

    _three(run, change)


@case
def empty_last_segment(run: Path) -> None:
    _three(run, lambda s: s.__setitem__(2, [b"", b""]))


@case
def noise(run: Path) -> None:
    put(run / "run", 1, bytes(range(256)) * 3)


# --- cuts -----------------------------------------------------------------------------------


@case
def cut_behind_a_line(run: Path) -> None:
    _three(run, lambda s: s[1].__delitem__(slice(3, None)))


@case
def cut_before_a_cursor(run: Path) -> None:
    _cut_with_cursor(run, lambda lines: lines[:-1], segment=1)


@case
def cursor_in_a_segment_that_is_gone(run: Path) -> None:
    _cut_with_cursor(run, lambda lines: lines, segment=2)


@case
def cursor_in_the_middle(run: Path) -> None:
    _cut_with_cursor(run, lambda lines: lines, segment=1, line=4)


def _cut_with_cursor(
    run: Path, change: Callable[[list[bytes]], list[bytes]], *, segment: int, line: int = 7
) -> None:
    lines = LogMaker().segment(metrics(6), is_sealed=False)
    cursor = Cursor(
        segment=segment,
        offset=sum(map(len, lines[:line])),
        seq=line - 1,
        crc=lines[line - 1][-11:-3].decode(),
    )
    put(run / "run", 1, b"".join(change(lines)))
    (run / CHECKPOINT).write_bytes(msgspec.json.encode(Checkpoint(cursors={WRITER_A: cursor})) + b"\n")


@case
def missing_segment(run: Path) -> None:
    _three(run, lambda s: s[1].clear())


@case
def missing_first_segment(run: Path) -> None:
    _three(run, lambda s: s[0].clear())


@case
def lines_after_the_seal(run: Path) -> None:
    _three(run, lambda s: s[2].append(close_line(b'{"seq":99,"ts":1,"type":"note"', _last_crc(s[2]))[0]))


def _last_crc(lines: list[bytes]) -> int:
    return int(lines[-1][-11:-3], 16)


# --- lines ----------------------------------------------------------------------------------


@case
def line_dropped(run: Path) -> None:
    _three(run, lambda s: s[1].__delitem__(2))


@case
def line_repeated(run: Path) -> None:
    _three(run, lambda s: s[1].insert(2, s[1][2]))


@case
def lines_swapped(run: Path) -> None:
    _three(run, lambda s: s[1].insert(2, s[1].pop(3)))


@case
def line_of_another_run(run: Path) -> None:
    other = LogMaker(WRITER_B).segment(metrics(4, start=100))
    _three(run, lambda s: s[1].__setitem__(2, other[2]))


@case
def segment_of_another_run(run: Path) -> None:
    other = LogMaker(WRITER_B).segment(metrics(4, start=100))
    _three(run, lambda s: s.__setitem__(0, other))


@case
def segment_in_the_place_of_the_next(run: Path) -> None:
    _three(run, lambda s: s.__setitem__(2, s[1]))


@case
def whole_line_that_is_no_event(run: Path) -> None:
    lines = LogMaker().segment(metrics(2), is_sealed=False)
    huge = b"9" * 20
    bodies = (b'{"no":"seq"', b'{"seq":%b,"ts":1,"type":"note"' % huge, b'{"seq":2,"ts":1,"type":"note"')
    for body in bodies:
        lines.append(close_line(body, _last_crc(lines))[0])
    put(run / "run", 1, b"".join(lines))


# --- payloads -------------------------------------------------------------------------------


def _payload(change: Callable[[ev.PayloadRef, Path], ev.PayloadRef]) -> Make:
    def make(run: Path) -> None:
        log = run / "run"
        text = {"type": "note", "text": "large " * 20}
        reference = change(spill(log, "note", json.dumps(text).encode()), log)
        events = [*metrics(1), ev.Note(payload=reference), *metrics(1, start=1)]
        put(log, 1, b"".join(LogMaker().segment(events)))

    return make


def _removed(reference: ev.PayloadRef, run: Path) -> ev.PayloadRef:
    (run / reference.path).unlink()
    return reference


def _altered(reference: ev.PayloadRef, run: Path) -> ev.PayloadRef:
    (run / reference.path).write_bytes((run / reference.path).read_bytes().replace(b"large", b"small"))
    return reference


CASES["payload"] = _payload(lambda reference, _: reference)
CASES["payload-missing"] = _payload(_removed)
CASES["payload-altered"] = _payload(_altered)
CASES["payload-outside-of-the-run"] = _payload(
    lambda reference, _: msgspec.structs.replace(reference, path="../../test_golden.py")
)
