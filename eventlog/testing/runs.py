"""Real logs for tests of sinks, written as a training job writes them."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog import events as ev
from eventlog.codec import encode_fields
from eventlog.events import Event
from eventlog.storage import artifacts
from eventlog.storage.buffer import LineTooLongError, LogBuffer
from eventlog.storage.options import WriterOptions

_OPTIONS = WriterOptions(ring_bytes=1 << 20, reserve_bytes=4096)


ODD_NAMES = (
    *("", " ", "a b", "a.b", "A", "a", "CON", "%s{}", "../up", "/root"),
    *("ä/ö/漢字/🎉", "a\nb\tc", "x" * 5000),
)


class FromLaterVersion(Event, frozen=True, kw_only=True, tag="of_a_later_version"):
    """An event whose type this version does not know: it is read back as an `UnknownEvent`."""

    data: dict[str, object] = {}  # noqa: RUF012 - msgspec copies it


class RunWriter:
    """One writer of the run at *path* (``<root>/<project>/<run_id>``); a second one resumes the run."""

    def __init__(self, path: Path, *, rank: int = 0) -> None:
        self.path = path
        self._buffer = LogBuffer(
            path, run_id=path.name, project=path.parent.name, rank=rank, options=_OPTIONS, strict=True
        )
        self._buffer.open()

    def write(self, *events: Event) -> None:
        """Append *events*, on the disk when this returns; what is too large for a line goes into a file."""
        for event in events:
            try:
                self._buffer.append(event)
            except LineTooLongError:
                reference = artifacts.spill(self.path, ev.type_name(event), encode_fields(event))
                self._buffer.append(_only_required(event, reference))
        self._buffer.sync()

    def close(self) -> None:
        """Seal the log."""
        self._buffer.close()


def _only_required(event: Event, reference: ev.PayloadRef) -> Event:
    import msgspec

    kept = {
        field.name: getattr(event, field.name)
        for field in msgspec.structs.fields(event)
        if field.required and field.name not in {"seq", "ts", "payload"}
    }
    return type(event)(**kept, payload=reference)


@contextmanager
def writer_of(path: Path, *, rank: int = 0) -> Iterator[RunWriter]:
    """Yield a writer of the run at *path* and seal its log at the end."""
    writer = RunWriter(path, rank=rank)
    try:
        yield writer
    finally:
        writer.close()


def make_run(path: Path, events: Iterable[Event], *, ranks: int = 1, status: str | None = "finished") -> Path:
    """Log *events* as the run *path* and return that; called again it resumes the run.

    Args:
        path: ``<root>/<project>/<run_id>``.
        ranks: so many writers take turns; each starts and ends its part.
        status: with which each ends; None leaves the end out.
    """
    is_new = not (path / "log").exists()
    writers = [RunWriter(path, rank=rank) for rank in range(ranks)]
    try:
        for writer in writers:
            writer.write(ev.RunStarted(name=path.name) if is_new else ev.RunResumed())
        for number, event in enumerate(events):
            writers[number % ranks].write(event)
        for writer in writers:
            if status is not None:
                writer.write(ev.RunEnded(status=status))
    finally:
        for writer in writers:
            writer.close()
    return path


def points(count: int, *, start: int = 0) -> list[Event]:
    """Return *count* metrics events of consecutive steps, two values each."""
    return [
        ev.Metrics(step=step, data={"loss": 1 / (step + 1), "lr": step * 0.5})
        for step in range(start, start + count)
    ]


def every_event(run: Path) -> list[Event]:
    """Return one good event of each type that a run can have, and one of a type that nobody knows.

    The files that they name are put below *run*.
    """
    media = _put(run, "media/image.png", png())
    weights = _put(run, "weights.bin", b"\x00\x01" * 50)
    part = _put(run, "folder/a.txt", b"a")
    parts = [ev.FileEntry(path="a.txt", size_bytes=len(part), sha256=_sha256(part))]
    return [
        *_said_events(),
        *_measured_events(),
        ev.Media(
            key="sample/image",
            media_type="image",
            step=1,
            path="artifacts/media/image.png",
            mime_type="image/png",
            caption="one pixel",
            size_bytes=len(media),
            sha256=_sha256(media),
        ),
        ev.Artifact(
            name="weights.bin", path="artifacts/weights.bin", size_bytes=len(weights), sha256=_sha256(weights)
        ),
        ev.Artifact(
            name="folder",
            path="artifacts/folder",
            artifact_type="dataset",
            size_bytes=1,
            sha256=_sha256(f"{_sha256(part)}  a.txt\n".encode()),
            is_directory=True,
            files=parts,
        ),
        ev.Artifact(name="elsewhere", path="/data/elsewhere.bin", stored="reference"),
        ev.Checkpoint(path="checkpoints/step-1.pt", step=1, metrics={"loss": 0.5}, size_bytes=7),
        ev.Model(name="classifier", artifact="weights.bin", flavor="pickle", step=1),
        ev.ModelRegistered(name="classifier", version="3", stage="staging", alias="best"),
        FromLaterVersion(data={"a": [1, None, {"b": "c"}]}),
    ]


def _said_events() -> list[Event]:
    return [
        ev.RunResumed(reason="joined"),
        ev.Context(kind="git", data={"commit": "0" * 40, "is_dirty": True}),
        ev.Context(kind="command", data={"argv": ["train.py", "--lr", "0.1"]}),
        ev.Dropped(counts={"metrics": 3}, reason="the ring was full", first_ts=1, last_ts=2),
        ev.Params(
            data={"lr": 0.1, "layers": [1, 2], "opt": {"name": "adam", "nesterov": False}, "seed": None}
        ),
        ev.Summary(data={"best": 0.25, "verdict": "good", "confusion": [[1, 0], [0, 1]]}),
        ev.Tags(data={"owner": "ada", "baseline": None}),
        ev.Tags(removed=["baseline"]),
        ev.Note(text="first line\nsecond line"),
        ev.Alert(title="loss is NaN", text="at step 3", level="warning"),
        ev.Console(stream="stdout", text="epoch 1\nepoch 2"),
        ev.Console(stream="stderr", text="warning: no GPU"),
        ev.Dataset(name="digits", version="1", split="train", path="/data/digits", rows=1797),
    ]


def _measured_events() -> list[Event]:
    return [
        ev.Metrics(step=1, data={"loss": 0.5, "count": 3}),
        ev.Metrics(data={"without/step": 1.0}),
        ev.Histogram(key="weights", step=1, edges=[-1.0, 0.0, 1.0], counts=[3, 5]),
        ev.Table(
            key="predictions", step=1, columns=["x", "y"], rows=[[1, "a"], [None, 2.5], [[1], {"k": 1}]]
        ),
        ev.Media(key="sample/text", media_type="text", step=1, mime_type="text/plain", text="the text"),
        ev.Media(key="sample/html", media_type="html", step=1, mime_type="text/html", text="<b>bold</b>"),
        ev.System(data={"cpu_percent": 12.5, "memory_bytes": 1 << 33}),
        ev.Evaluation(benchmark="squad", step=1, metrics={"f1": 0.5}, data={"split": "dev"}),
        ev.Sample(benchmark="squad", index=0, input="q", target="a", prediction="b", metrics={"f1": 0.0}),
    ]


def odd_events() -> list[Event]:
    """Return events that a log may hold and nobody expects: odd names, huge and non-finite values."""
    values: list[int | float | str] = [0.0, -0.0, 5e-324, 1.7976931348623157e308, 2**63 - 1, -(2**63)]
    values += ["NaN", "Infinity", "-Infinity"]
    return [
        *(ev.Metrics(step=1, data={name: 0.5}) for name in ODD_NAMES),
        *(ev.Metrics(step=step, data={"odd/value": value}) for step, value in enumerate(values)),
        *(ev.Metrics(step=step, data={"odd/step": 1.0}) for step in (5, 3, 5, 0, -1, 2**40, 2**63 - 1)),
        ev.Metrics(step=7, data={}),
        ev.Metrics(step=8, data={f"many/{number}": number for number in range(500)}),
        ev.Params(data=dict.fromkeys(ODD_NAMES, "v") | {"long": "y" * 100_000, "deep": _nested(30)}),
        ev.Params(data={"lr": 1}),
        ev.Params(data={"lr": 2}),
        ev.Params(data={}),
        ev.Summary(data={"nan": "NaN", "nothing": None, "big": "z" * 100_000}),
        ev.Tags(data={name: name for name in ODD_NAMES}, removed=["never there"]),
        ev.Note(text=""),
        ev.Note(text="n" * 2_000_000),
        ev.Console(stream="stdout", text="\x1b[31mred\x1b[0m\r\x00"),
        ev.Histogram(key="empty"),
        ev.Histogram(key="one", step=1, edges=[0.0, 0.0], counts=[2**40]),
        ev.Table(key="empty", step=1),
        ev.Table(key="ragged", step=1, columns=["a", "a"], rows=[[1], [1, 2, 3], []]),
        ev.Media(key="lost", media_type="image", step=1, path="artifacts/never/there.png"),
        ev.Artifact(name="lost", path="artifacts/never/there.bin", size_bytes=1, sha256="0" * 64),
        ev.Artifact(name="../up", path="../../up", size_bytes=1, sha256="0" * 64),
        ev.Evaluation(benchmark="", metrics={"f1": "NaN"}),
        ev.Sample(benchmark="b", index=-1, input={"deep": _nested(10)}),
    ]


def _nested(depth: int) -> object:
    return 1 if depth == 0 else {"k": _nested(depth - 1)}


def png(red: int = 255) -> bytes:
    """Return an image of one pixel."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes([0, red, 0, 0]))),
        (b"IEND", b""),
    ]
    data = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(data)


def _put(run: Path, name: str, data: bytes) -> bytes:
    path = run / "artifacts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
