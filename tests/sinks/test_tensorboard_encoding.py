"""What is written by hand is what TensorBoard's own messages and checksums say."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event as Message
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c as crc32c_oracle
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as masked_oracle
from tensorboard.plugins.audio import metadata as audio_metadata
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

from sinks._tfevents import wire
from sinks._tfevents.columns import read_block, scalar_records
from sinks._tfevents.crc32c import crc32c, masked

REWIND = wire.framed(wire.rewind_event(0))
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
times = st.integers(0, 1 << 51)
numbers = st.floats(allow_nan=False) | st.integers(-(1 << 63), (1 << 63) - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
tags = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
points = st.lists(st.tuples(int64, times, numbers), min_size=1, max_size=40)
rising = st.builds(
    lambda start, gaps: [start + sum(gaps[:i]) for i in range(len(gaps))],
    st.integers(-(1 << 40), 1 << 40),
    st.lists(st.integers(1, 1 << 22), min_size=1, max_size=80),
)


def value_of(fields: bytes) -> Any:
    return Summary.Value.FromString(fields)


def float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def decoded(data: bytes) -> list[tuple[str, int, float, float]]:
    """Return tag, step, time and value of every scalar, read with TensorBoard's messages."""
    found = []
    for _, payload in wire.records(data):
        message = Message.FromString(payload)
        assert message.WhichOneof("what") == "summary"
        found += [(v.tag, message.step, message.wall_time, v.simple_value) for v in message.summary.value]
    return found


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(min_size=4090, max_size=4200))
def test_crc32c_is_the_one_of_tensorboard(data: bytes) -> None:
    """Both the sum and its mask are those of TensorBoard's own code, for long data too."""
    assert crc32c(data) == crc32c_oracle(data)
    assert masked(crc32c(data)) == masked_oracle(data)


def test_crc32c_gives_the_published_check() -> None:
    """The sum of "123456789" is the check value of the polynomial's catalogue entry."""
    assert crc32c(b"123456789") == 0xE3069283


@settings(deadline=None)
@given(tags, points)
def test_scalars_are_the_messages_that_they_should_be(tag: str, points: list[tuple[int, int, float]]) -> None:
    """Whatever the steps, times and values, each point is a message of its own, in order."""
    steps, times, values = (list(column) for column in zip(*points, strict=True))

    data = b"".join(scalar_records(tag, steps, times, values, REWIND))

    assert decoded(data) == [(tag, s, t / 1e6, float32(v)) for s, t, v in points]


@settings(deadline=None)
@given(rising, st.data())
def test_many_points_at_once_are_as_right_as_one(steps: list[int], data: st.DataObject) -> None:
    """The way for many points with rising steps gives the same messages."""
    values = data.draw(
        st.lists(st.floats(width=32, allow_nan=False), min_size=len(steps), max_size=len(steps))
    )
    moments = [1_763_700_000_000_000 + 997 * i for i in range(len(steps))]

    written = b"".join(scalar_records("loss", steps, moments, values, REWIND))

    assert decoded(written) == [
        ("loss", s, t / 1e6, v) for s, t, v in zip(steps, moments, values, strict=True)
    ]


def test_nan_and_what_is_too_large_are_written() -> None:
    """NaN stays NaN; a number beyond 32 bits is infinite, as the readers would make it."""
    for count in (1, 20):
        data = b"".join(
            scalar_records(
                "a", list(range(3 * count)), [0] * 3 * count, [math.nan, 1e39, -(10**400)] * count, b""
            )
        )

        read = [value for *_, value in decoded(data)]
        assert math.isnan(read[0])
        assert read[1:3] == [math.inf, -math.inf]


@settings(deadline=None)
@given(tags, rising, st.data())
def test_blocks_are_read_as_single_records_are(tag: str, steps: list[int], data: st.DataObject) -> None:
    """The fast way to read finds the same points, and nothing from the place of a flipped bit on."""
    size = len(steps)
    values = data.draw(st.lists(st.floats(width=32, allow_nan=False), min_size=size, max_size=size))
    moments = [1_763_700_000_000_000 + 997 * i for i in range(size)]
    written = bytearray(b"".join(scalar_records(tag, steps, moments, values, b"")))

    found: list[tuple[int, int, float]] = []
    at = 0
    while (block := read_block(bytes(written), at)) is not None:
        found += zip(block.steps, block.times, block.values, strict=True)
        assert block.tag == tag
        at = block.end
    assert found == list(zip(steps, moments, values, strict=True))

    bit = data.draw(st.integers(0, 8 * len(written) - 1))
    written[bit // 8] ^= 1 << bit % 8
    at = 0
    while (block := read_block(bytes(written), at)) is not None:
        at = block.end
    assert at <= bit // 8


@settings(deadline=None)
@given(points)
def test_a_step_that_comes_back_is_announced(points: list[tuple[int, int, float]]) -> None:
    """Before each point that is not after the one before stands a message at the greatest step."""
    steps, times, values = (list(column) for column in zip(*points, strict=True))

    data = b"".join(scalar_records("a", steps, times, values, REWIND))

    last, is_announced = None, False
    for _, payload in wire.records(data):
        message = Message.FromString(payload)
        if not message.summary.value:
            assert message.step == wire.MAX_STEP
            is_announced = True
            continue
        assert is_announced == (last is not None and message.step <= last)
        last, is_announced = message.step, False


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_a_tensor_of_the_text_plugin(text: str) -> None:
    """A text is a tensor without dimensions."""
    value = value_of(wire.text_value(text.encode()))

    assert value.metadata.plugin_data.plugin_name == "text"
    assert make_ndarray(value.tensor).tolist() == text.encode()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 1 << 53)), max_size=20
    )
)
def test_histogram_keeps_edges_and_counts(buckets: list[tuple[float, int]]) -> None:
    """Each bucket is a row of left edge, right edge and count, with all digits."""
    edges = sorted([0.0, *(edge for edge, _ in buckets)])
    counts = [count for _, count in buckets]

    value = value_of(wire.histogram_value(wire.histogram_cells(edges, counts)))

    assert value.metadata.plugin_data.plugin_name == "histograms"
    cells = make_ndarray(value.tensor)
    assert cells.shape == (len(counts), 3)
    assert cells.tolist() == [
        [left, right, count] for left, right, count in zip(edges, edges[1:], counts, strict=False)
    ]


def test_image_is_the_message_of_images() -> None:
    """A file goes over byte by byte, with its size in pixels."""
    image = value_of(wire.image_value(b"PNG", 640, 480)).image

    assert (image.width, image.height, image.encoded_image_string) == (640, 480, b"PNG")


@pytest.mark.parametrize(("is_wav", "encoding"), [(True, "WAV"), (False, "UNKNOWN")])
def test_audio_is_a_tensor_of_the_audio_plugin(is_wav: bool, encoding: str) -> None:
    """A sound is a vector of one file; the metadata say whether it is a WAV file."""
    value = value_of(wire.audio_value(b"RIFF", is_wav=is_wav))

    parsed = audio_metadata.parse_plugin_metadata(value.metadata.plugin_data.content)
    assert audio_metadata.Encoding.Name(parsed.encoding) == encoding
    assert make_ndarray(value.tensor).tolist() == [b"RIFF"]


hparams = st.dictionaries(tags, st.booleans() | finite | tags)


@settings(deadline=None)
@given(hparams)
def test_hparams_are_read_by_their_page_and_by_us(given: dict[str, bool | float | str]) -> None:
    """The HParams page's own parser finds each value with its type; so does reading back."""
    fields = wire.session_start(given, 1_500_000)

    content = value_of(fields).metadata.plugin_data.content
    info = metadata.parse_session_start_info_plugin_data(content)
    assert {name: getattr(v, v.WhichOneof("kind")) for name, v in info.hparams.items()} == given
    assert info.start_time_secs == 1.5
    assert wire.hparams_of(fields) == given


@pytest.mark.parametrize(("is_success", "status"), [(True, 1), (False, 2)])
def test_the_end_of_a_session_says_how(is_success: bool, status: int) -> None:
    """Success and failure are those of the HParams page."""
    content = value_of(wire.session_end(is_success=is_success, t_us=2_000_000)).metadata.plugin_data.content

    info = metadata.parse_session_end_info_plugin_data(content)
    assert (info.status, info.end_time_secs) == (status, 2.0)


@settings(deadline=None)
@given(tags, int64, times, st.binary(max_size=50))
def test_read_values_gives_back_what_was_written(tag: str, step: int, t_us: int, data: bytes) -> None:
    """Reading an event gives kind, tag, step, time and content."""
    payload = wire.value_event(tag, wire.image_value(data, 1, 1), step, t_us)

    (value,) = wire.read_values(payload)

    assert (value.kind, value.tag, value.step, value.content) == ("image", tag, step, data)
    assert value.t_us == t_us


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.data())
def test_records_stop_at_a_flipped_bit(payloads: list[bytes], data: st.DataObject) -> None:
    """A flipped bit anywhere is found, and what stands before its record is still read."""
    whole = [wire.framed(payload) for payload in payloads]
    at = data.draw(st.integers(0, 8 * sum(map(len, whole)) - 1))
    damaged = bytearray(b"".join(whole))
    damaged[at // 8] ^= 1 << at % 8
    good = next(i for i in range(len(whole)) if at // 8 < sum(map(len, whole[: i + 1])))

    read: list[bytes] = []
    with pytest.raises(wire.DamagedRecordError):
        read.extend(payload for _, payload in wire.records(bytes(damaged)))

    assert read == payloads[:good]
