"""The page on the log format: its example is exact, and the page is enough to read a log."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from eventlog.events import Metrics, Note, RunStarted, SegmentOpened, SegmentSealed
from tests.logs import WRITER_A, LogMaker, put, read_back

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (REFERENCE / "format.md").read_text("utf-8")
EXAMPLE = [f"{block}\n".encode() for block in re.findall(r"```jsonl\n(.*?)\n```", PAGE, re.DOTALL)]
NAMES = re.findall(r"^`(\S+\.jsonl)`", PAGE, re.MULTILINE)
GOLDEN = Path(__file__).parents[1] / "golden" / "format-1"


def read_by_the_page(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Return a run's events: a reader made from the page alone, without a line of eventlog."""
    writers: dict[str, dict[int, dict[str, Any]]] = {}
    for name in sorted(files):
        writer = name.split(".")[0]
        events = writers.setdefault(writer, {})
        seeds = [0]
        for line in files[name].split(b"\n")[:-1]:
            body, suffix = line[:-18], line[-18:]
            good = [s for s in seeds if suffix == b',"crc":"%08x"}' % crc32(body, s)]
            stored = re.fullmatch(rb',"crc":"([0-9a-f]{8})"\}', suffix)
            own = [] if good or len(seeds) > 1 or not seeds else [crc32(body, seeds[0])]
            seeds = ([int(stored[1], 16)] if stored else []) + own
            if good:
                fields = json.loads(line)
                if not fields["type"].startswith("segment_"):
                    events.setdefault(fields["seq"], {**fields, "writer": writer})
    queues = [[events[seq] for seq in sorted(events)] for events in writers.values() if events]
    merged = []
    while queues:
        first = min(queues, key=lambda queue: (queue[0]["ts"], queue[0]["writer"]))
        merged.append(first.pop(0))
        queues = [queue for queue in queues if queue]
    return merged


def test_example_is_what_the_software_writes() -> None:
    """The bytes on the page are those of the encoder."""
    maker = LogMaker()
    metrics = Metrics(step=10, data={"train/loss": 0.5, "val/f1": "NaN"})
    first = maker.segment([RunStarted(name="demo"), metrics])
    second = maker.segment([Note(text="ünïcode")], is_sealed=False)

    assert [b"".join(first), b"".join(second)] == EXAMPLE
    assert [f"{WRITER_A}.00000{n}.jsonl" for n in (1, 2)] == NAMES


def test_example_is_read_by_the_software(tmp_path: Path) -> None:
    """What the page shows is a log."""
    for number, data in enumerate(EXAMPLE, 1):
        put(tmp_path, number, data)

    read = read_back(tmp_path)

    assert [event.seq for event in read.events] == [0, 1, 2]
    assert read.is_clean


def test_sums_of_the_example_are_right() -> None:
    """The numbers in the text are those of the example."""
    header, event, _, seal = EXAMPLE[0].splitlines()
    body = re.search(r"second line's body is\n\n```\n(.*?)\n```", PAGE, re.DOTALL)
    sums = re.search(r"start value 0x(\w{8}).* is 0x(\w{8})", PAGE)
    sizes = re.search(r"before the seal are (\d+), their SHA-256 is `(\w{64})`", PAGE)
    assert body
    assert sums
    assert sizes

    assert event[:-18] == body[1].encode()
    assert crc32(body[1].encode(), int(sums[1], 16)) == int(sums[2], 16)
    assert header.endswith(f'"{sums[1]}"}}'.encode())
    head = EXAMPLE[0][: int(sizes[1])]
    assert EXAMPLE[0][len(head) :] == seal + b"\n"
    assert hashlib.sha256(head).hexdigest() == sizes[2] == json.loads(seal)["sha256"]


def test_next_header_of_the_example_names_the_segment_before() -> None:
    """`prev` has the number, the next seq, the last crc and the size."""
    last = json.loads(EXAMPLE[0].splitlines()[-1])

    assert json.loads(EXAMPLE[1].splitlines()[0])["prev"] == {
        "segment": 1,
        "seq": last["seq"],
        "crc": last["crc"],
        "size_bytes": len(EXAMPLE[0]),
    }


def test_reader_made_from_the_page_reads_the_example() -> None:
    """Thirty lines that know nothing of this software find the same events."""
    events = read_by_the_page(dict(zip(NAMES, EXAMPLE, strict=True)))

    assert [(e["seq"], e["type"]) for e in events] == [(0, "run_started"), (1, "metrics"), (2, "note")]


def test_reader_made_from_the_page_reads_the_golden_log() -> None:
    """Also with damage, a torn tail and two writers, both readers see the same events in the same order."""
    files = {path.name: path.read_bytes() for path in (GOLDEN / "run" / "log").iterdir()}
    expected = json.loads((GOLDEN / "expected.json").read_text("utf-8"))["events"]

    events = read_by_the_page(files)

    assert [(e["writer"], e["seq"], e["ts"], e["type"]) for e in events] == [
        (e["writer"], e["event"]["seq"], e["event"]["ts"], e["event"]["type"]) for e in expected
    ]


@pytest.mark.parametrize("frame", [SegmentOpened, SegmentSealed])
def test_page_names_every_field_of_the_frames(frame: type[SegmentOpened] | type[SegmentSealed]) -> None:
    """A field that is added to a frame has to be described."""
    rows = set(re.findall(r"`(\w+)`", "\n".join(line for line in PAGE.splitlines() if line[:1] == "|")))

    assert set(frame.__struct_fields__) <= rows | {"payload"}
