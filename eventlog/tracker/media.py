"""Things to look at and to hear: stored below the run as ``artifacts/media/…``, one `Media` event each.

A file is copied as it is, bytes get the suffix that their first bytes ask for, and what is neither is
encoded here: images as PNG (needs pillow), sounds as WAV. Whatever cannot be stored costs one warning that
names key and reason. What few runs need (pillow, numpy, wave, tempfile) is imported where it is used.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from eventlog import events as ev
from eventlog.ids import safe_name
from eventlog.storage import artifacts
from eventlog.tracker.recording import RunRecorder
from eventlog.tracker.runs import Runs
from eventlog.values import key_text, text

MediaType = Literal["image", "audio", "video", "html", "text"]

_MIME_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".bmp": "image/bmp",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aiff": "audio/aiff",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".ogv": "video/ogg",
    ".mpg": "video/mpeg",
}
# Where in a file, which bytes, and the suffix that they ask for.
_MAGIC: dict[str, tuple[tuple[int, bytes, str], ...]] = {
    "image": (
        (0, b"\x89PNG", ".png"),
        (0, b"\xff\xd8", ".jpg"),
        (0, b"GIF8", ".gif"),
        (0, b"RIFF", ".webp"),
        (0, b"BM", ".bmp"),
        (0, b"<svg", ".svg"),
    ),
    "audio": (
        (0, b"RIFF", ".wav"),
        (0, b"fLaC", ".flac"),
        (0, b"OggS", ".ogg"),
        (0, b"ID3", ".mp3"),
        (0, b"\xff\xfb", ".mp3"),
        (0, b"\xff\xf3", ".mp3"),
        (0, b"\xff\xf2", ".mp3"),
        (0, b"FORM", ".aiff"),
        (4, b"ftyp", ".m4a"),
    ),
    "video": (
        (4, b"ftyp", ".mp4"),
        (0, b"\x1aE\xdf\xa3", ".webm"),
        (0, b"GIF8", ".gif"),
        (0, b"RIFF", ".avi"),
        (0, b"OggS", ".ogv"),
        (0, b"\x00\x00\x01\xba", ".mpg"),
    ),
}


class Content(NamedTuple):
    """What is to be stored, a file of the user's or bytes, and the suffix of the copy."""

    source: Path | bytes
    suffix: str


class MediaCalls(Runs):
    """The tracker's calls for what has a file format of its own; images, texts and tables are in `core`."""

    def log_audio(
        self,
        key: str,
        data: object,
        sample_rate: float | None = None,
        step: int | None = None,
        caption: str | None = None,
    ) -> None:
        """Log a sound: a file, the bytes of one, or samples, which are stored as a WAV of 16 bits.

        Args:
            data: samples have the shape (n,) or (n, channels): floats in [-1, 1] (what is beyond is
                clipped, NaN is silence) or int16; an array, a tensor or a list.
            sample_rate: samples a second; needed for samples, ignored for a file.
        """
        run = self._active()
        if run is not None:
            log_content(run, key, "audio", lambda: _audio(data, sample_rate), step, caption)

    def log_video(
        self,
        key: str,
        data_or_path: object,
        step: int | None = None,
        caption: str | None = None,
        fps: float | None = None,  # noqa: ARG002 - see the docstring
    ) -> None:
        """Log a video: a file or the bytes of one. Arrays of frames are refused: evlog encodes no video.

        Args:
            fps: taken so that calls for other trackers fit; a file has its own rate.
        """
        run = self._active()
        if run is not None:
            log_content(run, key, "video", lambda: _video(data_or_path), step, caption)

    def log_html(self, key: str, html: str | os.PathLike[str], step: int | None = None) -> None:
        """Log HTML of any length: a text is the HTML itself, a `Path` a file that holds it."""
        if isinstance(html, os.PathLike):
            self.log_media(key, html, "html", step)
            return
        run = self._active()
        if run is not None:
            run.add(ev.Media(key=key_text(key), media_type="html", step=run.step(step), text=text(str(html))))

    def log_media(
        self,
        key: str,
        path: str | os.PathLike[str],
        media_type: MediaType,
        step: int | None = None,
        caption: str | None = None,
        *,
        mime_type: str | None = None,
    ) -> None:
        """Log a file of any format: copied and hashed; of ``html`` and ``text`` the content is logged.

        Args:
            mime_type: default by the file's suffix, null for one that is not known.
        """
        run = self._active()
        if run is None:
            return
        if media_type not in get_args(MediaType):
            known = ", ".join(get_args(MediaType))
            run.complain(key_text(key), f"{key!r} was not logged: {media_type!r} is none of {known}")
        elif media_type == "html" or media_type == "text":
            _log_words(run, key_text(key), path, media_type, step, caption)
        else:
            log_content(run, key, media_type, lambda: _file(path), step, caption, mime_type=mime_type)


def log_image(run: RunRecorder, key: str, image: object, step: int | None, caption: str | None) -> None:
    """Store *image* and log where it is; what is no image costs a warning."""
    log_content(run, key, "image", lambda: _image(image), step, caption)


def log_content(
    run: RunRecorder,
    key: str,
    kind: Literal["image", "audio", "video"],
    take: Callable[[], Content],
    step: object,
    caption: str | None,
    *,
    mime_type: str | None = None,
) -> None:
    """Store what *take* returns and log where it is; what it raises costs a warning."""
    key, number = key_text(key), run.step(step)
    try:
        content = take()
        name = safe_name(key.replace("/", "-")) + ("" if number is None else f"-{number}")
        stored = _store(run, content, name)
    except Exception as error:  # plotting and array libraries raise whatever they like
        run.complain(key, f"{kind} {key!r} was not logged: {error or type(error).__name__}")
        return
    run.add(
        ev.Media(
            key=key,
            media_type=kind,
            step=number,
            path=stored.path,
            mime_type=_MIME_TYPES.get(content.suffix) if mime_type is None else text(mime_type),
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            caption=None if caption is None else text(str(caption)),
        )
    )


def _store(run: RunRecorder, content: Content, name: str) -> artifacts.Stored:
    # The suffix is the user's, and may hold anything.
    suffix = safe_name(content.suffix.lstrip(".")[:20]) if content.suffix else ""
    target = f"media/{name}{'.' if suffix else ''}{suffix}"
    if isinstance(content.source, Path):
        return artifacts.store(run.path, content.source, target, 1)
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "content"
        path.write_bytes(content.source)
        return artifacts.store(run.path, path, target, 1)


def _log_words(
    run: RunRecorder,
    key: str,
    path: str | os.PathLike[str],
    kind: Literal["html", "text"],
    step: object,
    caption: str | None,
) -> None:
    try:
        words = Path(path).read_text("utf-8", errors="backslashreplace")
    except (OSError, TypeError, ValueError) as error:
        run.complain(key, f"{kind} {key!r} was not logged: {error}")
        return
    caption = None if caption is None else text(str(caption))
    run.add(ev.Media(key=key, media_type=kind, step=run.step(step), caption=caption, text=words))


# --- what is to be stored ---------------------------------------------------------------------------


def _file(path: object) -> Content:
    """Return a file of the user's as it lies.

    Raises:
        OSError: it is not there, or no file.
    """
    file = Path(cast("str", path))
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file")
    return Content(file, file.suffix.lower())


def _given(data: object, kind: str) -> Content | None:
    """Return a file or the bytes of one, or None if *data* is neither."""
    if isinstance(data, (str, os.PathLike)):
        return _file(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        content = bytes(data)
        found = (suffix for at, magic, suffix in _MAGIC[kind] if content[at : at + len(magic)] == magic)
        return Content(content, next(found, ".bin"))
    return None


def _image(image: object) -> Content:
    given = _given(image, "image")
    if given is not None:
        return given
    buffer = io.BytesIO()
    savefig, save = getattr(image, "savefig", None), getattr(image, "save", None)
    if callable(savefig):  # matplotlib
        savefig(buffer, format="png")
    elif callable(save):  # PIL
        save(buffer, format="PNG")
    else:
        _array_image(image).save(buffer, format="PNG")
    return Content(buffer.getvalue(), ".png")


def _array_image(data: object):  # type: ignore[no-untyped-def]  # PIL is not a dependency
    import numpy as np
    from PIL import Image

    values = np.asarray(data)
    if values.dtype.kind == "f":
        values = np.clip(values * 255, 0, 255)
    values = values.astype("uint8")
    return Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values)


def _video(data: object) -> Content:
    given = _given(data, "video")
    if given is None:
        raise TypeError(
            f"it is a {type(data).__name__}, not a file or the bytes of one. Encode the frames first "
            "(ffmpeg, imageio, torchcodec) and log the file"
        )
    return given


def _audio(data: object, sample_rate: float | None) -> Content:
    given = _given(data, "audio")
    if given is not None:
        return given
    from eventlog.tracker.sounds import wav

    return Content(wav(data, sample_rate), ".wav")
