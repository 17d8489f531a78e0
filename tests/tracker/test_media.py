"""Sounds, videos, HTML and images: what lies below the run, and what is refused by name."""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
import warnings
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import EvlogWarning, Tracker, TrackingConfig
from eventlog.errors import BadValueError, forget_reports
from eventlog.events import Media
from eventlog.tracker.sounds import pcm, pcm_of_lists, wav
from tests.tracker.support import logged, only_run, run_job

MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(100)


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    forget_reports()
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path / "runs")
    tracker.start_run("a")
    return tracker


def media_of(tracker: Tracker) -> tuple[Path, list[Media]]:
    """End the run; return its directory and its media."""
    run = tracker.run_dir
    assert run is not None
    tracker.end_run()
    return run, logged(run, Media)


def frames_of(data: bytes) -> tuple[list[int], int, int]:
    """Return samples, channels and rate of a WAV."""
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").tolist()
        return samples, file.getnchannels(), file.getframerate()


def test_samples_become_a_wav(tracker: Tracker) -> None:
    """Floats are scaled to 16 bits and clipped, NaN is silence; size and hash are those of the file."""
    tracker.log_audio(
        "val/speech", np.array([0.0, 0.5, -1.0, 7.0, math.nan, -math.inf]), 16_000, step=3, caption="héllo"
    )

    run, (sound,) = media_of(tracker)
    assert sound.path == "artifacts/media/val-speech-3.wav"
    data = (run / sound.path).read_bytes()
    assert frames_of(data) == ([0, 16384, -32767, 32767, 0, -32767], 1, 16_000)
    assert (sound.key, sound.media_type, sound.mime_type, sound.step, sound.caption) == (
        "val/speech",
        "audio",
        "audio/wav",
        3,
        "héllo",
    )
    assert (sound.size_bytes, sound.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("samples", "kept", "channels"),
    [
        (np.array([[1, -2], [300, 32767]], "int16"), [1, -2, 300, 32767], 2),
        (np.array([0.5], "float32"), [16384], 1),
        ([0.5, -0.5], [16384, -16384], 1),
        ([[0.5, 0.0], [0, -1.0]], [16384, 0, 0, -32767], 2),
        ([1, -32768], [1, -32768], 1),
    ],
)
def test_samples_of_every_shape_are_taken(samples: object, kept: list[int], channels: int) -> None:
    """Arrays and lists, one channel or several, floats or integers of 16 bits."""
    assert frames_of(wav(samples, 8000)) == (kept, channels, 8000)


finite = st.floats(-2, 2, width=32) | st.just(math.nan) | st.just(math.inf)
ints = st.integers(-32768, 32767)


@given(
    st.integers(1, 3).flatmap(
        lambda channels: st.one_of(
            st.lists(st.lists(finite, min_size=channels, max_size=channels), min_size=1),
            st.lists(st.lists(ints, min_size=channels, max_size=channels), min_size=1),
        )
    )
)
def test_samples_are_the_same_without_numpy(samples: list[list[float]]) -> None:
    """Whether numpy is installed changes nothing in the file."""
    assert pcm_of_lists(samples) == pcm(samples)


@pytest.mark.parametrize(
    ("samples", "rate", "why"),
    [
        ([0.5], None, "sample_rate"),
        ([0.5], 0, "sample_rate"),
        (np.zeros((2, 48_000)), 8000, r"\(n, channels\), not \(2, 48000\)"),
        (np.zeros((2, 2, 2)), 8000, "shape"),
        ([], 8000, "shape"),
        (np.zeros(3, "uint8"), 8000, "int16, not uint8"),
        ([70_000], 8000, "16 bits"),
        ([1j], 8000, "."),
        ("nowhere.wav", None, "nowhere.wav is not a file"),
        (".", None, "is not a file"),
        (object(), 8000, "."),
        (None, 8000, "."),
    ],
)
def test_a_sound_that_cannot_be_stored_is_refused_by_name(
    tracker: Tracker, samples: object, rate: int | None, why: str
) -> None:
    """The warning has the key and the reason, and nothing is left behind."""
    with pytest.warns(EvlogWarning, match=rf"audio 'k' was not logged: (?s:.*){why}"):
        tracker.log_audio("k", samples, rate)

    run, media = media_of(tracker)
    assert media == []
    assert list((run / "artifacts").rglob("*")) in ([], [run / "artifacts" / "media"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int16"])
def test_tensors_are_samples(dtype: str) -> None:
    """Those of torch, also of types that numpy lacks and with a gradient."""
    torch = pytest.importorskip("torch", reason="needs torch")
    tensor = torch.tensor([[0.5], [-1]]).to(getattr(torch, dtype))
    if dtype != "int16":
        tensor.requires_grad_()

    kept = [0, -1] if dtype == "int16" else [16384, -32767]
    assert frames_of(wav(tensor, 8000)) == (kept, 1, 8000)


@pytest.mark.parametrize("samples", [[], [[]], [[1], [1, 2]], ["x"], [True], [70_000], [None]])
def test_lists_that_are_no_samples_are_refused_without_numpy(samples: object) -> None:
    """Empty, ragged, and what is no number."""
    with pytest.raises((ValueError, OverflowError)):
        pcm_of_lists(samples)


@pytest.mark.parametrize(
    ("data", "suffix", "mime_type"),
    [
        (b"RIFF0000WAVE", ".wav", "audio/wav"),
        (b"fLaC", ".flac", "audio/flac"),
        (b"ID3", ".mp3", "audio/mpeg"),
        (bytearray(b"OggS"), ".ogg", "audio/ogg"),
        (b"????ftypM4A", ".m4a", "audio/mp4"),
        (b"what is this", ".bin", None),
    ],
)
def test_bytes_of_a_sound_get_their_suffix(
    tracker: Tracker, data: bytes, suffix: str, mime_type: str | None
) -> None:
    """The first bytes say which format it is; an unknown one is kept all the same."""
    tracker.log_audio("k", data)

    run, (sound,) = media_of(tracker)
    assert (sound.path, sound.mime_type) == (f"artifacts/media/k{suffix}", mime_type)
    assert (run / str(sound.path)).read_bytes() == data


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_video_is_stored_as_it_is(tracker: Tracker, tmp_path: Path, as_bytes: bool) -> None:
    """A file or the bytes of one."""
    path = tmp_path / "Clip.MP4"
    path.write_bytes(MP4)

    tracker.log_video("rollout", MP4 if as_bytes else str(path), step=1, fps=25)

    run, (video,) = media_of(tracker)
    assert (video.path, video.media_type, video.mime_type) == (
        "artifacts/media/rollout-1.mp4",
        "video",
        "video/mp4",
    )
    assert (run / str(video.path)).read_bytes() == MP4


def test_frames_of_a_video_are_refused_with_a_way_out(tracker: Tracker) -> None:
    """Nothing here encodes a video, and the warning says what does."""
    with pytest.warns(EvlogWarning, match="video 'v' was not logged: it is a ndarray.*ffmpeg"):
        tracker.log_video("v", np.zeros((2, 4, 4, 3), "uint8"), fps=4)


def test_html_is_logged_as_text_and_as_a_file(tracker: Tracker, tmp_path: Path) -> None:
    """A text is the HTML, a path names it; bytes that are no UTF-8 are kept as escapes."""
    page = tmp_path / "page.html"
    page.write_bytes("<p>é</p>\xff".encode("latin-1"))

    tracker.log_html("report", "<b>x</b>", step=2)
    tracker.log_html("report", page)

    _, media = media_of(tracker)
    assert [(m.media_type, m.text, m.step, m.path) for m in media] == [
        ("html", "<b>x</b>", 2, None),
        ("html", "<p>\\xe9</p>\\xff", None, None),
    ]


def test_any_file_is_a_medium(tracker: Tracker, tmp_path: Path) -> None:
    """The type is the caller's; the MIME type comes from the suffix unless it is given."""
    path = tmp_path / "a.mkv"
    path.write_bytes(b"x")
    note = tmp_path / "a.txt"
    note.write_text("héllo", "utf-8")

    tracker.log_media("v", path, "video", step=1)
    tracker.log_media("w", path, "video", mime_type="video/strange", caption="c")
    tracker.log_media("t", note, "text", caption="c")

    _, media = media_of(tracker)
    assert [(m.key, m.media_type, m.mime_type, m.text, m.caption) for m in media] == [
        ("v", "video", "video/x-matroska", None, None),
        ("w", "video", "video/strange", None, "c"),
        ("t", "text", None, "héllo", "c"),
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda t, _: t.log_media("k", __file__, "hologram"),
        lambda t, p: t.log_media("k", p / "none", "image"),
        lambda t, p: t.log_media("k", p / "none", "text"),
        lambda t, p: t.log_media("k", p.stat(), "video"),
        lambda t, p: t.log_html("k", p / "none"),
        lambda t, p: t.log_image("k", p / "none.png"),
        lambda t, p: t.log_video("k", p),
    ],
)
def test_what_is_not_there_costs_one_warning(
    tracker: Tracker, tmp_path: Path, call: Callable[[Tracker, Path], None]
) -> None:
    """The key stands in it, and the second time it is silent."""
    with pytest.warns(EvlogWarning, match="'k' was not logged"):
        call(tracker, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        call(tracker, tmp_path)

    assert caught == []
    assert media_of(tracker)[1] == []


def test_strict_raises(tmp_path: Path) -> None:
    """With strict=True a sound without a rate is an error."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path, strict=True) as tracker:
        with pytest.raises(BadValueError, match="sample_rate"):
            tracker.log_audio("k", [0.5])
        with pytest.raises(BadValueError, match="hologram"):
            tracker.log_media("k", "x", "hologram")  # type: ignore[arg-type]


def test_a_fifo_does_not_stop_the_training(tracker: Tracker, tmp_path: Path) -> None:
    """Opening one would wait for ever: it is no file."""
    os.mkfifo(tmp_path / "pipe.mp4")

    with pytest.warns(EvlogWarning, match="is not a file"):
        tracker.log_video("k", tmp_path / "pipe.mp4")


def test_odd_names_stay_below_the_run(tracker: Tracker, tmp_path: Path) -> None:
    """Whatever key and suffix are, the copy lies in media, and the same name twice is two files."""
    odd = tmp_path / ("x." + "s\n" * 30)
    odd.write_bytes(b"x")

    for key in ("../../up", "k" * 400, "", "\udc80", "con", "a/b"):
        tracker.log_media(key, odd, "image", step=-1)
        tracker.log_media(key, odd, "image", step=-1)

    run, media = media_of(tracker)
    assert len({m.path for m in media}) == 12
    assert all((run / str(m.path)).parent == run / "artifacts" / "media" for m in media)
    assert all((run / str(m.path)).read_bytes() == b"x" for m in media)


def test_threads_log_media_side_by_side(tracker: Tracker) -> None:
    """Every call is one event with a file of its own."""

    def work() -> None:
        for _ in range(10):
            tracker.log_audio("k", b"RIFF", step=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({m.path for m in media_of(tracker)[1]}) == 40


def test_a_call_outside_of_a_run_starts_one(tmp_path: Path) -> None:
    """As every other call does."""
    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path) as tracker:
        tracker.log_html("k", "<p>")

    assert len(logged(only_run(tmp_path), Media)) == 1


def test_disabled_calls_do_nothing(tmp_path: Path) -> None:
    """With EVLOG_DISABLED no call looks at what it was given, and nothing is written."""
    code = """
    from eventlog import create_tracker
    with create_tracker("local") as t:
        t.log_audio("k", None); t.log_video("k", None); t.log_html("k", "x"); t.log_media("k", "no", "no")
        assert t.log_model(None, "m") is None and t.register_model("m") is None
        with t.watch_model(None, log="no") as watch:
            assert not watch.is_active
    """
    exit_code, _, err = run_job(code, tmp_path, EVLOG_DISABLED="1")

    assert (exit_code, err) == (0, "")
    assert list(tmp_path.iterdir()) == []
