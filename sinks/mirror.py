"""The `mirror` sink: the run's own files, copied to another directory or an object store.

    <to>/<project>/<run_id>/log/…              the segments, byte for byte
                            artifacts/…        the copies of logged files
                            metadata.json …    what other sinks made, if they did
                            .evlog/mirror.json what was copied, with SHA-256

So every command works on the mirror: ``evlog query --dir <to> "select …"``.

A repeated batch is harmless because batches only say how far the copy must have come: what the target
holds already, by its own record and listing, is not copied again. The record is written after what it
records was read back and hashed. Files come before the log that names them, and of a segment that still
grows only lines that verify are copied, so whoever reads the mirror sees the run as it was a moment ago.

Nothing is ever removed from the mirror, and a copy that verified is not replaced by a source that does
not any more: a segment that lost its end or was damaged here stays whole there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.layout import STATE_DIRECTORY, SegmentName
from eventlog.storage.modes import is_private, keep_private
from sinks._mirror.proof import expected_points, mirrored_points
from sinks._mirror.source import Segment, Source, segment_path
from sinks._mirror.targets import (
    ChangedError,
    Content,
    DirectoryTarget,
    Held,
    StoreTarget,
    Target,
    is_url,
    sha256_of,
    without_secrets,
)

RECORD = f"{STATE_DIRECTORY}/mirror.json"
_TRIES = 3
_SAVE_AFTER_BYTES = 256 << 20


class Copied(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that the target holds, as it was read back.

    Attributes:
        mark: what the target's listing said of it then; see `Held`.
        source_mtime_ns: of the file that was copied.
        is_sealed: a segment that verified against its seal; it is never looked at again.
    """

    size_bytes: int
    sha256: str
    mark: str
    source_mtime_ns: int = 0
    is_sealed: bool = False


class Record(msgspec.Struct, kw_only=True):
    """What one target holds of one run; lies there as ``.evlog/mirror.json``."""

    generation: int = 0
    files: dict[str, Copied] = {}


class MirrorSink:
    """Copies a run's log and files to *to*.

    Args:
        to: a directory, or a URL of fsspec such as ``s3://bucket/prefix``.
        endpoint_url: the server of an S3 that is not Amazon's.
        storage_options: further arguments for fsspec's file system; a mapping or its JSON.
        interval_s: gather so long while a run is followed; default 2 s, for URLs 15 s, for a store takes a
            segment only as a whole.

    Raises:
        EvlogError: an option is not usable.

    Attributes:
        target: where copies go, once `open` was called.
    """

    def __init__(
        self,
        *,
        to: str | Path,
        endpoint_url: str | None = None,
        storage_options: Mapping[str, object] | str | None = None,
        interval_s: float | str | None = None,
    ) -> None:
        self._to = str(to)
        if not self._to.strip():
            raise EvlogError("mirror: `to` is empty. Name a directory or a URL: --option to=s3://bucket/runs")
        self._is_url = is_url(self._to)
        self._directory = Path() if self._is_url else Path(self._to).expanduser().resolve()
        self._options = _storage_options(storage_options, endpoint_url)
        if self._options and not self._is_url:
            raise EvlogError(
                f"mirror: {self._to} is a directory, which takes no storage options. Leave them out."
            )
        self.traits = Traits(
            takes_shape=False, batch_age_s=_seconds(interval_s, default=15.0 if self._is_url else 2.0)
        )
        self.target: Target | None = None
        self._run: RunInfo | None = None
        self._record = Record()
        self._saved: dict[str, Copied] = {}
        self._source: Source | None = None
        self._unsaved_bytes = 0
        self._problems: dict[str, str] = {}

    @property
    def destination(self) -> str:
        """Return the directory, or the URL without credentials, and its server."""
        if not self._is_url:
            return str(self._directory)
        endpoint = self._options.get("endpoint_url")
        return without_secrets(self._to) + (f" at {without_secrets(str(endpoint))}" if endpoint else "")

    # --- the life of a delivery ------------------------------------------------------------------

    def open(self, run: RunInfo) -> Checkpoint | None:
        """Compare the target's record with its listing; what does not agree will be copied again.

        Raises:
            SinkUnavailableError: the target cannot be reached now.
            EvlogError: it is not there, may not be used, or is the run itself.
        """
        target = self._connected()
        self._run, self._source, self._problems = run, Source(run.path), {}
        self._refuse_itself(run)
        if not self._is_url and is_private(run.path):
            keep_private(self._directory / self._place)
        target.clear_young(self._place)
        held = target.list(self._place)
        record = self._read_record() if RECORD in held else Record()
        if record.generation != run.generation:
            record = Record(generation=run.generation)
        self._saved = record.files
        files = {path: self._still(path, copied, held) for path, copied in record.files.items()}
        self._record = Record(
            generation=run.generation, files={path: copied for path, copied in files.items() if copied}
        )
        return None

    def write(self, batch: Batch) -> None:
        """Make the target hold the log at least as far as *batch*, and the files that it names."""
        if not all(self._holds(part.block.name, part.cursor.offset) for part in batch.slices):
            self._copy_all()

    def close(self, status: RunStatus | None) -> None:
        """Copy what is left.

        Raises:
            EvlogError: files that cannot be read; everything else was copied.
        """
        if status is None:
            with contextlib.suppress(EvlogError):  # why it stopped is known already
                self._save_record()
            return
        self._copy_all()
        if self._problems:
            what = "; ".join(f"{path}: {why}" for path, why in sorted(self._problems.items()))
            raise EvlogError(f"not mirrored: {what}. All other files were. Mend these and sync again.")

    def _connected(self) -> Target:
        if self.target is None:
            if self._is_url:
                self.target = StoreTarget(self._to, self._options)
            else:
                self.target = DirectoryTarget(self._directory)
        return self.target

    @property
    def _place(self) -> str:
        assert self._run is not None
        return f"{self._run.project}/{self._run.run_id}"

    def _refuse_itself(self, run: RunInfo) -> None:
        if self._is_url:
            return
        source, copy = run.path.resolve(), self._directory / self._place
        if source == copy or source in copy.parents or copy in source.parents:
            raise EvlogError(
                f"mirror: {copy} lies in the run that is to be copied there. Choose another place."
            )

    # --- what the target holds -------------------------------------------------------------------

    def _read_record(self) -> Record:
        data = b"".join(self._connected().chunks(f"{self._place}/{RECORD}"))
        try:
            return msgspec.json.decode(data, type=Record)
        except (msgspec.MsgspecError, ValueError):
            return Record()  # everything is copied again, which costs time and nothing else

    def _still(self, path: str, copied: Copied, held: Mapping[str, Held]) -> Copied | None:
        """Return *copied* if the target still holds that, whoever wrote it there."""
        now = held.get(path)
        if now is None or now.size_bytes != copied.size_bytes:
            return None
        if now.mark == copied.mark:
            return copied
        if sha256_of(self._connected().chunks(f"{self._place}/{path}")) != copied.sha256:
            return None
        return msgspec.structs.replace(copied, mark=now.mark)

    def _holds(self, name: SegmentName, offset: int) -> bool:
        copied = self._record.files.get(segment_path(name))
        return copied is not None and (copied.is_sealed or copied.size_bytes >= offset)

    def _save_record(self) -> None:
        if self._record.files == self._saved:
            return
        data = msgspec.json.encode(self._record)
        self._connected().put(f"{self._place}/{RECORD}", Content(Path(RECORD), len(data), data))
        self._saved, self._unsaved_bytes = dict(self._record.files), 0

    # --- copying ---------------------------------------------------------------------------------

    def _copy_all(self) -> None:
        """Copy what the target does not hold of the run as it is now."""
        assert self._source is not None
        self._problems = {}
        # The log is looked at before the files, and copied after them: what it names is there.
        segments = list(self._source.segments(self._is_sealed))
        for path, source in self._source.files(self._note):
            self._copy_file(path, source)
        for segment in segments:
            self._copy_segment(segment)
        self._save_record()

    def _is_sealed(self, path: str) -> bool:
        copied = self._record.files.get(path)
        return copied is not None and copied.is_sealed

    def _note(self, path: Path, why: str) -> None:
        """Keep what could not be copied for `close` to tell."""
        assert self._source is not None
        name = path.relative_to(self._source.run).as_posix()
        self._problems[name.encode(errors="backslashreplace").decode()] = why

    def _copy_file(self, path: str, source: Path) -> None:
        """Copy one file that is not of the log; one that cannot be read is kept for `close` to tell."""
        try:
            path.encode()
            if not any(self._try_file(path, source) for _ in range(_TRIES)):
                self._note(source, "it changes while it is copied")
        except FileNotFoundError:
            pass  # it had its name for a moment only
        except UnicodeEncodeError:
            self._note(source, "its name is not UTF-8")
        except OSError as error:
            self._note(source, error.strerror or str(error))

    def _try_file(self, path: str, source: Path) -> bool:
        """Copy one file if the target does not hold it; return False if it changed meanwhile."""
        found, known = source.stat(), self._record.files.get(path)
        if known and (known.size_bytes, known.source_mtime_ns) == (found.st_size, found.st_mtime_ns):
            return True
        content = Content(source, found.st_size)
        now = source.stat()
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (found.st_ino, found.st_size, found.st_mtime_ns):
            return False
        if known and (known.size_bytes, known.sha256) == (content.size_bytes, content.sha256):
            self._took(path, msgspec.structs.replace(known, source_mtime_ns=found.st_mtime_ns))
            return True
        try:
            held = self._connected().put(f"{self._place}/{path}", content)
        except ChangedError:
            return False
        self._took(path, _copied(content, held, found.st_mtime_ns))
        return True

    def _took(self, path: str, copied: Copied) -> None:
        """Note what the target holds; save that now and then, so that a kill costs little."""
        self._record.files[path] = copied
        self._unsaved_bytes += copied.size_bytes
        many = max(64, len(self._saved) // 8)
        if len(self._record.files) - len(self._saved) > many or self._unsaved_bytes > _SAVE_AFTER_BYTES:
            self._save_record()

    # --- the log -----------------------------------------------------------------------------------

    def _copy_segment(self, segment: Segment) -> None:
        known = self._record.files.get(segment.path)
        if known and (known.size_bytes, known.source_mtime_ns) == (segment.size_bytes, segment.mtime_ns):
            return
        content = Content(segment.source, segment.size_bytes)
        if known is not None and content.hash_of(known.size_bytes) != known.sha256:
            if segment.size_bytes <= known.size_bytes:
                return  # cut or damaged here since; the target has what was written
            held_bytes = b"".join(self._connected().chunks(f"{self._place}/{segment.path}"))
            content = Content(segment.source, segment.size_bytes, held_bytes)
        seal = segment.seal
        is_sealed = seal is not None and content.hash_of(seal.size_bytes) == seal.sha256
        held = self._put_segment(segment.path, content, is_final=is_sealed)
        copied = _copied(content, held, segment.mtime_ns)
        self._took(segment.path, msgspec.structs.replace(copied, is_sealed=is_sealed))

    def _put_segment(self, path: str, content: Content, *, is_final: bool) -> Held:
        for _ in range(_TRIES):
            try:
                return self._connected().put(f"{self._place}/{path}", content, is_final=is_final)
            except ChangedError as error:
                last = error
        raise SinkUnavailableError(f"{last}. It is tried again later.") from last

    # --- proof -------------------------------------------------------------------------------------

    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        """Yield a point for each value of metrics, each other event, and each file of the run."""
        return expected_points(entries)

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        """Read the mirror's log, and hash the files that it names, where they lie."""
        return mirrored_points(self._connected(), f"{run.project}/{run.run_id}")


def _copied(content: Content, held: Held, mtime_ns: int) -> Copied:
    return Copied(size_bytes=held.size_bytes, sha256=content.sha256, mark=held.mark, source_mtime_ns=mtime_ns)


def _storage_options(
    options: Mapping[str, object] | str | None, endpoint_url: str | None
) -> dict[str, object]:
    """Return fsspec's arguments.

    Raises:
        EvlogError: the text is not a JSON object.
    """
    found: object = options or {}
    if isinstance(found, str):
        try:
            found = msgspec.json.decode(found)
        except msgspec.MsgspecError as error:
            raise EvlogError(f"mirror: storage_options is not JSON ({error}). {_EXAMPLE}") from error
    if not isinstance(found, Mapping):
        raise EvlogError(f"mirror: storage_options is a {type(found).__name__}, not an object. {_EXAMPLE}")
    return {str(k): v for k, v in found.items()} | ({"endpoint_url": endpoint_url} if endpoint_url else {})


_EXAMPLE = "Give it as --option storage_options='{\"anon\": true}'."


def _seconds(value: float | str | None, *, default: float) -> float:
    if value is None or value == "":
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 86_400:
        raise EvlogError(
            f"mirror: interval_s={value!r} is no number of seconds below a day. Try interval_s=10."
        )
    return seconds
