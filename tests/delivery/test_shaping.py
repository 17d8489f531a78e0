"""Shapes: which metrics go, how many points, and what is hidden."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import events as ev
from eventlog.delivery.hiding import REDACTED, Hider
from eventlog.delivery.shaping import Counts, Shape, Shaper
from eventlog.errors import BadShapeError
from eventlog.events import AnyEvent, Metrics
from tests.delivery.fakes import (
    Deaths,
    RowSink,
    Store,
    TruncatingSink,
    by_writer,
    deliver,
    deliver_or_die,
    put_odd_log,
    put_ranks,
)
from tests.strategies import any_event

SECRET = "hunter2"


def points(keys: list[str], start: int = 0) -> list[Metrics]:
    """Return one point of each of *keys*, one after the other."""
    return [Metrics(seq=start + n, step=n, data={key: float(n)}) for n, key in enumerate(keys)]


def apply(shape: Shape, events: list[AnyEvent], writer: str = "w") -> list[AnyEvent]:
    """Return what passes, after everything was counted."""
    shaper = Shaper(shape)
    shaper.count(writer, events)
    return shaper.apply(writer, events)


# --- which metrics, and their names ------------------------------------------------------------------


def test_metrics_are_chosen_by_patterns_and_renamed() -> None:
    """Included, then excluded, then renamed; an event without any metric left does not go."""
    shape = Shape(include=("train/*", "lr"), exclude=("*/grad",), rename={"lr": "learning rate"})
    events: list[AnyEvent] = [
        Metrics(step=1, data={"train/loss": 1, "train/grad": 2, "lr": 3, "val/loss": 4}),
        Metrics(step=2, data={"val/loss": 4}),
        ev.Histogram(key="train/weights"),
        ev.Histogram(key="val/weights"),
        ev.Checkpoint(path="c", metrics={"train/loss": 1, "val/loss": 2, "lr": 3}),
        ev.System(data={"cpu_percent": 1.0}),
        ev.Evaluation(benchmark="b", metrics={"accuracy": 1.0}),
    ]

    shaped = apply(shape, events)

    assert shaped == [
        Metrics(step=1, data={"train/loss": 1, "learning rate": 3}),
        events[2],
        ev.Checkpoint(path="c", metrics={"train/loss": 1, "learning rate": 3}),
        *events[5:],
    ]


@pytest.mark.parametrize(("rename", "names"), [({"a": "b"}, ["a", "b"]), ({"a": "b", "b": "c"}, ["a", "c"])])
def test_rename_that_mixes_two_metrics_is_refused(rename: dict[str, str], names: list[str]) -> None:
    """Two metrics under one name cannot be told apart again."""
    with pytest.raises(BadShapeError, match=r"--rename.*another"):
        apply(Shape(rename=rename), list(points(names)))


def test_rename_to_a_name_that_is_given_away_or_left_out_is_fine() -> None:
    """Names may be swapped, and that of an excluded metric may be used."""
    swapped = apply(Shape(rename={"a": "b", "b": "a"}), list(points(["a", "b"])))
    left_out = apply(Shape(rename={"a": "b"}, exclude=("b",)), list(points(["a", "b"])))

    assert [list(e.data) for e in swapped if isinstance(e, Metrics)] == [["b"], ["a"]]
    assert [list(e.data) for e in left_out if isinstance(e, Metrics)] == [["b"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "--every 0"),
        ({"max_points": 1}, "--max-points 1"),
        ({"redact": ("(",)}, "regular expression"),
        ({"redact": ("x*",)}, "empty"),
        ({"rename": {"a": "c", "b": "c"}}, "'c'"),
    ],
)
def test_shape_that_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    """The message names the option."""
    with pytest.raises(BadShapeError, match=said):
        Shape(**options)  # type: ignore[arg-type]


# --- how many points ----------------------------------------------------------------------------------


@given(
    keys=st.tuples(st.text("abc", min_size=1, max_size=5), st.integers(0, 200)).map(
        lambda drawn: list((drawn[0] * 200)[: drawn[1]])
    ),
    every=st.integers(1, 8),
    limit=st.none() | st.integers(2, 9),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_thinning_keeps_its_bounds_and_does_not_see_batches(
    keys: list[str], every: int, limit: int | None, cuts: list[int]
) -> None:
    """Each metric for itself: the first, each nth, at most the limit, the last of what is left among them."""
    shape, events = Shape(every=every, max_points=limit), points(keys)

    shaped = apply(shape, list(events))

    shaper = Shaper(shape)
    shaper.count("w", events)
    edges = [0, *sorted(cuts), len(events)]
    in_parts: list[AnyEvent] = []
    for begin, end in itertools.pairwise(edges):
        # As after a death: the counts come from the disk.
        counts = msgspec.json.decode(msgspec.json.encode(shaper.counts), type=Counts)
        shaper = Shaper(shape, counts)
        in_parts += shaper.apply("w", events[begin:end])
    assert in_parts == shaped
    for key in set(keys):
        all_steps = [n for n, k in enumerate(keys) if k == key]
        kept = [e.step for e in shaped if isinstance(e, Metrics) and key in e.data]
        of_every = all_steps[::every]
        if limit is None:
            assert kept == of_every
        else:
            assert len(kept) <= limit
            assert set(kept) <= set(of_every)
            assert (kept[0], kept[-1]) == (of_every[0], of_every[-1])
            assert len(of_every) > limit or kept == of_every


@given(order=st.permutations([0] * 9 + [1] * 9), every=st.integers(1, 4))
def test_thinning_does_not_see_how_writers_are_interleaved(order: list[int], every: int) -> None:
    """Each writer's points are counted for themselves."""
    shaper, kept = Shaper(Shape(every=every)), []
    at = [0, 0]
    for writer in order:
        event = Metrics(seq=at[writer], step=at[writer], data={"a": 1})
        kept += [(writer, e.seq) for e in shaper.apply(f"w{writer}", [event])]
        at[writer] += 1

    assert sorted(kept) == [(writer, seq) for writer in (0, 1) for seq in range(0, 9, every)]


SHAPES = [
    Shape(every=3),
    Shape(max_points=3),
    Shape(every=2, max_points=2),
    Shape(exclude=("loss",)),
    Shape(redact=("finished",), rename={"loss": "l"}),
]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    deaths=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9)), max_size=8),
    make=st.sampled_from([RowSink, TruncatingSink]),
    put=st.sampled_from([put_ranks, put_odd_log]),
)
def test_shape_gives_the_same_events_whatever_deaths(
    shape: Shape, deaths: list[tuple[int, int]], make: type[RowSink], put: object
) -> None:
    """Counting goes on where the checkpoint is."""
    with tempfile.TemporaryDirectory() as root:
        run, store, whole = Path(root) / "p" / "run", Store(), Store()
        put(run)  # type: ignore[operator]

        for at, size in deaths:
            deliver_or_die(run, make(store, batch_events=size, deaths=Deaths(at)), shape=shape)
        deliver(run, make(store), shape=shape)
        deliver(run, make(whole, destination="other"), shape=shape)

        assert by_writer(store.rows) == by_writer(whole.rows)


def test_shape_counts_refused_batches_once(tmp_path: Path) -> None:
    """Halving shapes the same events again; that must not be counted twice."""
    run, store = tmp_path / "p" / "run", Store()
    put_ranks(run)

    deliver(
        run,
        TruncatingSink(store, names=False, refuses=lambda entry: entry.event.seq == 5),
        shape=Shape(every=2),
    )

    steps = {row.event.step for row in store.rows if isinstance(row.event, Metrics)}
    assert steps == {0, 2, 6, 8}


# --- what is hidden -------------------------------------------------------------------------------------

HIDDEN_BY_TEXT: list[AnyEvent] = [
    ev.Params(data={"a": {"b": SECRET}, "c": [SECRET, {"d": SECRET}]}),
    ev.Summary(data={"a": f"is {SECRET}."}),
    ev.Context(kind="command", data={"argv": ["--password", SECRET]}),
    ev.Tags(data={"a": SECRET}),
    ev.Note(text=SECRET),
    ev.Console(stream="stdout", text=f"1\n{SECRET}\n2"),
    ev.RunStarted(name="a", tags={"a": SECRET}, notes=SECRET),
    ev.RunEnded(status="failed", error=ev.ErrorInfo(type="E", message=SECRET, traceback=SECRET)),
    ev.Alert(title=SECRET, text=SECRET),
    ev.Media(key="k", media_type="text", text=SECRET, caption=SECRET),
    ev.Table(key="k", columns=["a"], rows=[[SECRET], [{"a": SECRET}]]),
    ev.Sample(benchmark="b", index=0, input=SECRET, target=[SECRET], prediction={"a": SECRET}),
    ev.Evaluation(benchmark="b", data={"a": SECRET}),
    ev.Dataset(name="d", path=f"s3://{SECRET}@x", data={"a": SECRET}),
    ev.Artifact(name="n", path=f"/{SECRET}/x", stored="reference", source=f"/{SECRET}"),
    ev.Checkpoint(path=f"/{SECRET}"),
    ev.UnknownEvent(seq=1, ts=2, type="new", raw=b'{"seq":1,"ts":2,"type":"new","a":{"b":["hunter2"]}}'),
    ev.UnknownEvent(seq=1, ts=0, type="?", raw=b'{"seq":1,hunter2'),
]


@pytest.mark.parametrize("event", HIDDEN_BY_TEXT, ids=lambda event: type(event).__name__)
def test_secret_is_hidden_in_every_text(event: AnyEvent) -> None:
    """Nothing of it is left, what is beside it stays, and the time and number of the event, too."""
    (shaped,) = Shaper(Shape(redact=(SECRET,))).apply("w", [event])

    assert SECRET not in repr(shaped)
    assert REDACTED in repr(shaped)
    assert type(shaped) is type(event)
    assert (shaped.seq, shaped.ts) == (event.seq, event.ts)


def test_params_are_hidden_by_their_dotted_names() -> None:
    """A name hides everything below it, whatever its type; keys stay."""
    params = ev.Params(
        data={"db": {"host": "h", "password": {"value": 1}}, "users": [{"api_key": 5}], "dbx": None}
    )

    shaped = Hider([r"db\.password$", "api_key"]).hide(params)

    assert shaped == ev.Params(
        data={
            "db": {"host": "h", "password": {"value": REDACTED}},
            "users": [{"api_key": REDACTED}],
            "dbx": None,
        }
    )


def test_tags_are_hidden_by_their_names() -> None:
    """Like params."""
    assert Hider(["token"]).hide(ev.Tags(data={"token": "x", "a": "b", "token2": None})) == ev.Tags(
        data={"token": REDACTED, "a": "b", "token2": None}
    )


def test_unknown_event_stays_an_event() -> None:
    """What is hidden in it leaves JSON that begins with its seq."""
    raw = b'{"seq":1,"ts":2,"type":"new","token":{"a":1},"crc":"00000000"}'

    shaped = Hider(["token", "seq", "new"]).hide(ev.UnknownEvent(seq=1, ts=2, type="new", raw=raw))

    assert isinstance(shaped, ev.UnknownEvent)
    assert shaped.raw == b'{"seq":1,"ts":2,"type":"new","token":{"a":"[redacted]"}}'


def test_path_of_a_copy_stays() -> None:
    """It names a file of the run, which the sink has to find."""
    event = ev.Artifact(name="n", path=f"artifacts/{SECRET}")

    assert Hider([SECRET]).hide(event) == event


@given(event=any_event())
def test_hiding_makes_an_event_of_the_same_kind(event: AnyEvent) -> None:
    """It can be written and read like any other; and a pattern without a match changes nothing."""
    shaped = Hider(["[a-z0-9]"]).hide(event)

    assert msgspec.json.decode(msgspec.json.encode(shaped), type=type(event)) == shaped
    assert Hider(["\x00never\x00"]).hide(event) == event
