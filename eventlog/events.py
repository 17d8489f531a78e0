"""The events: one frozen struct for each kind of fact, and the name that it has on disk.

An event is a fact that happened, never a request. The tag is the name on disk and never changes;
a field may be added with a default, and any other change needs a step in `eventlog.upcast`.
`docs/reference/events.md` describes each field for people who read logs with other tools.

A line holds ``seq``, ``ts``, ``type`` and then the fields in the order in which they stand here.
Fields that have their default are left out of the line.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FORMAT = 1

NonFinite = Literal["NaN", "Infinity", "-Infinity"]
"""JSON has no such numbers, and both JSON libraries would write null: they are strings on disk."""


class Event(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="event", gc=False
):
    """What every event has. *seq* and *ts* are given by the writer; -1 and 0 stand for "not yet".

    Attributes:
        seq: number of the event in its writer's stream, from 0. A frame (`SegmentOpened`,
            `SegmentSealed`) is not an event of the run and carries the seq of the event that comes next.
        ts: microseconds since the Unix epoch, UTC.
        payload: where the fields lie, if they were too large for one line.
    """

    seq: int = -1
    ts: int = 0
    payload: PayloadRef | None = None


class PayloadRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file below the run's directory that holds, as JSON, the fields of an event over the line limit."""

    path: str
    size_bytes: int
    sha256: str


class Previous(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How the segment before ended: its number, next seq, last crc and size in verified bytes."""

    segment: int
    seq: int
    crc: str
    size_bytes: int


class RingInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where the writer keeps what is not synced yet: a shared file (survives SIGKILL) or memory."""

    kind: Literal["file", "memory"]
    size_bytes: int
    reason: str | None = None


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The exception that ended a run."""

    type: str
    message: str
    traceback: str = ""


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One file of a directory artifact; *path* is relative to the artifact."""

    path: str
    size_bytes: int
    sha256: str


# --- frames: the first and the last line of a segment ------------------------------------------


class SegmentOpened(Event, frozen=True, kw_only=True, tag="segment_opened"):
    """The first line of a segment.

    Attributes:
        stream_offset: position of this line's first byte in the writer's stream, bytes.
        salt: random, so that lines of another segment never verify here.
        origin: ``writer``; ``recovery`` (made from a dead writer's ring); ``rewrite`` (repeats what was
            not synced when the disk failed; readers drop what they have by (writer, seq)).
        forked_from: the writer of the parent process, if this one was forked.
        pid_started: start of the process in the system's own unit, so that a reused pid is noticed.
    """

    format: int
    run_id: str
    project: str
    writer: str
    segment: int
    stream_offset: int
    salt: str
    prev: Previous | None
    rank: int = 0
    origin: Literal["writer", "recovery", "rewrite"] = "writer"
    durability: Literal["buffered", "synced"] = "buffered"
    ring: RingInfo | None = None
    host: str = ""
    pid: int = 0
    pid_started: str = ""
    forked_from: str | None = None
    software: str = ""


class SegmentSealed(Event, frozen=True, kw_only=True, tag="segment_sealed"):
    """The last line of a segment: *sha256* and *size_bytes* are those of all bytes before this line."""

    events: int
    size_bytes: int
    sha256: str
    reason: str


# --- the life of a run ---------------------------------------------------------------------------


class RunStarted(Event, frozen=True, kw_only=True, tag="run_started"):
    """A run began. Tags without a value have None."""

    name: str
    experiment: str | None = None
    parent_run_id: str | None = None
    tags: dict[str, str | None] = {}
    notes: str | None = None


class RunResumed(Event, frozen=True, kw_only=True, tag="run_resumed"):
    """Another process went on with the run (``resumed``) or takes part in it (``joined``)."""

    reason: Literal["resumed", "joined"] = "resumed"


class RunEnded(Event, frozen=True, kw_only=True, tag="run_ended"):
    """A writer's part in the run is over: ``finished``, ``failed`` or ``killed``."""

    status: str
    error: ErrorInfo | None = None
    exit_code: int | None = None
    signal: str | None = None


class Context(Event, frozen=True, kw_only=True, tag="context"):
    """Where a run comes from: *kind* is ``command``, ``git``, ``environment``, ``hardware``, …."""

    kind: str
    data: dict[str, object] = {}


class Dropped(Event, frozen=True, kw_only=True, tag="dropped"):
    """What a full disk or ring cost: number of lost events by type, between two times (µs)."""

    counts: dict[str, int]
    reason: str
    first_ts: int
    last_ts: int


# --- what is measured ------------------------------------------------------------------------------


class Params(Event, frozen=True, kw_only=True, tag="params"):
    """Inputs of the run, nested as they were given."""

    data: dict[str, object] = {}


class Metrics(Event, frozen=True, kw_only=True, tag="metrics"):
    """Numbers at one step. The strings among the values are those of `NonFinite`."""

    step: int | None = None
    data: dict[str, int | float | str] = {}


class Summary(Event, frozen=True, kw_only=True, tag="summary"):
    """Final values and texts: the last one given for a name counts."""

    data: dict[str, object] = {}


class Histogram(Event, frozen=True, kw_only=True, tag="histogram"):
    """Counts between edges: ``len(edges) == len(counts) + 1``, edges ascending."""

    key: str
    step: int | None = None
    edges: list[float] = []
    counts: list[int] = []


class Table(Event, frozen=True, kw_only=True, tag="table"):
    """Rows of JSON values."""

    key: str
    step: int | None = None
    columns: list[str] = []
    rows: list[list[object]] = []


class Media(Event, frozen=True, kw_only=True, tag="media"):
    """Something to look at or to hear: *text* for text and html, else *path* below the run."""

    key: str
    media_type: Literal["image", "audio", "video", "html", "text"]
    step: int | None = None
    path: str | None = None
    mime_type: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    caption: str | None = None
    text: str | None = None


class System(Event, frozen=True, kw_only=True, tag="system"):
    """Load of the machine; the units stand in the names."""

    data: dict[str, int | float | str] = {}


class Console(Event, frozen=True, kw_only=True, tag="console"):
    """Lines that the process printed."""

    stream: Literal["stdout", "stderr"]
    text: str = ""


class Evaluation(Event, frozen=True, kw_only=True, tag="evaluation"):
    """Results of a benchmark on one split."""

    benchmark: str
    step: int | None = None
    metrics: dict[str, int | float | str] = {}
    data: dict[str, object] = {}


class Sample(Event, frozen=True, kw_only=True, tag="sample"):
    """One item of an evaluation: what went in, what was wanted, what came out."""

    benchmark: str
    index: int
    input: object = None
    target: object = None
    prediction: object = None
    metrics: dict[str, int | float | str] = {}
    latency_ms: float | None = None


# --- files and what is said about the run -------------------------------------------------------------


class Artifact(Event, frozen=True, kw_only=True, tag="artifact"):
    """A file or directory of the run.

    Attributes:
        path: below the run's directory if *stored* is ``copy``, else where the user keeps it.
        sha256: of the bytes; of a directory, of its sorted lines ``<sha256>  <path>\\n``.
        version: 1 for the first artifact of this name in the run, then 2, ….
        files: the parts of a directory, sorted by path.
    """

    name: str
    path: str
    artifact_type: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    version: int = 1
    stored: Literal["copy", "reference"] = "copy"
    is_directory: bool = False
    files: list[FileEntry] = []
    source: str | None = None


class Checkpoint(Event, frozen=True, kw_only=True, tag="checkpoint"):
    """A model's state was saved at *path* (by reference: checkpoints are large)."""

    path: str
    step: int | None = None
    metrics: dict[str, int | float | str] = {}
    size_bytes: int | None = None
    sha256: str | None = None


class Dataset(Event, frozen=True, kw_only=True, tag="dataset"):
    """Data that the run read."""

    name: str
    version: str | None = None
    split: str | None = None
    path: str | None = None
    sha256: str | None = None
    rows: int | None = None
    data: dict[str, object] = {}


class Model(Event, frozen=True, kw_only=True, tag="model"):
    """A trained model, stored as the artifact *artifact*; that one's *path* says which version of it."""

    name: str
    artifact: str
    flavor: str | None = None
    step: int | None = None
    path: str | None = None


class ModelRegistered(Event, frozen=True, kw_only=True, tag="model_registered"):
    """A model got a name in a registry: that of *artifact* and *path*, if it is one of this run."""

    name: str
    version: str | None = None
    stage: str | None = None
    alias: str | None = None
    artifact: str | None = None
    path: str | None = None


class Tags(Event, frozen=True, kw_only=True, tag="tags"):
    """Labels that were set (None: without a value) and labels that were taken away."""

    data: dict[str, str | None] = {}
    removed: list[str] = []


class Note(Event, frozen=True, kw_only=True, tag="note"):
    """Free text about the run."""

    text: str = ""


class Alert(Event, frozen=True, kw_only=True, tag="alert"):
    """Something that a person should see soon."""

    title: str
    text: str = ""
    level: Literal["info", "warning", "error"] = "info"


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event of a type that this version does not know, kept as the bytes that lie in the log."""

    seq: int
    ts: int
    type: str
    raw: bytes


KNOWN = (
    SegmentOpened,
    SegmentSealed,
    RunStarted,
    RunResumed,
    RunEnded,
    Context,
    Dropped,
    Params,
    Metrics,
    Summary,
    Histogram,
    Table,
    Media,
    System,
    Console,
    Evaluation,
    Sample,
    Artifact,
    Checkpoint,
    Dataset,
    Model,
    ModelRegistered,
    Tags,
    Note,
    Alert,
)
"""Every event that this version writes."""

ALWAYS_SYNCED = (RunStarted, RunResumed, RunEnded, Params, Artifact, Checkpoint)
"""On disk (fdatasync) before the call returns, whatever the durability: rare, and they matter most."""

AnyEvent = Event | UnknownEvent


def type_name(event: AnyEvent) -> str:
    """Return the name that *event* has on disk."""
    if isinstance(event, UnknownEvent):
        return event.type
    return str(event.__struct_config__.tag)
