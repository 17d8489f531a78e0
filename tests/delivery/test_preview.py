"""What a preview counts is what is then sent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from eventlog.delivery.preview import preview
from eventlog.delivery.shaping import Shape
from eventlog.errors import BadShapeError, ShapeChangedError
from eventlog.events import RunEnded, RunStarted, type_name
from eventlog.sink import Traits
from tests.delivery.fakes import KeyedSink, Store, deliver, put_log, put_odd_log, put_ranks
from tests.logs import LogMaker, metrics, put

SHAPES = [Shape(), Shape(every=4), Shape(max_points=3), Shape(exclude=("lo*",)), Shape(redact=("a",))]


def sent(store: Store) -> Counter[str]:
    return Counter(type_name(row.event) for row in store.rows)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("make", [put_odd_log, put_ranks])
def test_a_preview_counts_what_is_then_sent(tmp_path: Path, make: object, shape: Shape) -> None:
    """Of every kind, of logs with damage, ranks, and what a killed writer left in its ring."""
    run, store = tmp_path / "p" / "run", Store()
    make(run)  # type: ignore[operator]

    counts = preview(run, KeyedSink(store), "fake", shape=shape)
    nothing_sent = not store.rows
    deliver(run, KeyedSink(store), shape=shape)

    assert nothing_sent
    assert counts == sent(store)
    assert not preview(run, KeyedSink(store), "fake", shape=shape)


def test_a_preview_counts_only_what_is_new(tmp_path: Path) -> None:
    """And everything again for a restart, or for files that are made anew each time."""
    run, log = tmp_path / "p" / "run", LogMaker()
    put(run, 1, b"".join(log.segment([RunStarted(name="a"), *metrics(5)])))
    deliver(run, KeyedSink(Store()))
    put(run, 2, b"".join(log.segment(metrics(3, start=5))))

    def counts(sink: KeyedSink, *, restart: bool = False) -> Counter[str]:
        return preview(run, sink, "fake", restart=restart)

    assert counts(KeyedSink(Store())) == {"metrics": 3}
    assert counts(KeyedSink(Store()), restart=True) == {"run_started": 1, "metrics": 8}
    assert counts(KeyedSink(Store(), traits=Traits(is_projection=True))) == {"run_started": 1, "metrics": 8}


def test_a_preview_refuses_what_a_delivery_would_refuse(tmp_path: Path) -> None:
    """Another shape than before, and a shape where there can be none."""
    run = tmp_path / "p" / "run"
    put_log(run, [RunStarted(name="a"), *metrics(5), RunEnded(status="finished")])
    deliver(run, KeyedSink(Store()), shape=Shape(every=2))

    with pytest.raises(ShapeChangedError):
        preview(run, KeyedSink(Store()), "fake", shape=Shape())
    with pytest.raises(BadShapeError):
        preview(run, KeyedSink(Store(), traits=Traits(takes_shape=False)), "copy", shape=Shape(every=2))
