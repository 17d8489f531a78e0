"""How fast a long log is read: by evlog, by its parts alone, and by DuckDB."""

from __future__ import annotations

import random
import time
from functools import reduce
from operator import or_
from pathlib import Path
from zlib import crc32

Figures = dict[str, float]

COLUMNS = {
    "seq": "BIGINT",
    "ts": "BIGINT",
    "type": "VARCHAR",
    "step": "BIGINT",
    "data": "JSON",
    "crc": "VARCHAR",
}


def write_log(directory: Path, lines: int) -> Path:
    """Write a run of *lines* calls of three metrics; return its directory."""
    from eventlog import create_tracker

    tracker = create_tracker([], output_dir=directory, project="bench")
    fresh = random.Random(0).random
    with tracker.start_run("long"):
        run = tracker.run_dir
        assert run is not None
        for step in range(lines):
            tracker.log_metrics({"loss": fresh(), "accuracy": fresh(), "lr": fresh()}, step=step)
    return run


def measure_replay(run: Path, rounds: int) -> list[Figures]:
    """Return events a second of each reader, in turn, for each round."""
    readers = {"evlog": read_evlog, "msgspec_crc": read_msgspec, "duckdb": read_duckdb}
    results = []
    for _ in range(rounds):
        figures = {}
        for name, read in readers.items():
            begin = time.perf_counter()
            count = read(run)
            figures[f"{name}_events_per_s"] = count / (time.perf_counter() - begin)
        results.append(figures)
    return results


def read_evlog(run: Path) -> int:
    """Read as every consumer does: verified, joined, merged, decoded into typed events."""
    from eventlog.storage.merge import RunReader

    reader = RunReader(run)
    count = sum(len(part.events) for part in reader.slices())
    assert not reader.findings
    return count


def read_msgspec(run: Path) -> int:
    """Read with the fewest steps that still check each line and decode it into a typed event."""
    import msgspec

    from eventlog.events import KNOWN, Event, SegmentOpened, SegmentSealed

    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(reduce(or_, KNOWN))
    count = 0
    for path in sorted((run / "log").glob("*.jsonl")):
        crc = 0
        with path.open("rb") as file:
            for line in file:
                crc = crc32(line[:-19], crc)
                if line[-19:] != b',"crc":"%08x"}\n' % crc:
                    raise ValueError(f"{path} is damaged")
                count += not isinstance(decoder.decode(line), (SegmentOpened, SegmentSealed))
    return count


def read_duckdb(run: Path) -> int:
    """Read the raw lines with DuckDB, types given, on all cores; nothing is verified."""
    import duckdb

    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    query = f"""
        select count(*), sum(seq), max(ts), sum(step), sum(try_cast(data->>'loss' as double)), count(crc)
        from read_json('{run}/log/*.jsonl', format = 'newline_delimited', columns = {{{columns}}})
    """
    row = duckdb.connect().execute(query).fetchone()
    assert row is not None
    return int(row[0])
