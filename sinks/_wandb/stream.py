"""The lines of one run at W&B: finds out which are there, appends the others, sees that they arrived.

Lines are history, load of the machine and console. A line's place is fixed before it is first sent. What the
service holds is read from the status that it gives to clients that resume a run; that status may be late.

Not safe for use by several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import orjson

from eventlog.errors import EvlogError, SinkUnavailableError
from sinks._wandb.api import FILES, STATUS, Api
from sinks._wandb.media import Upload

POST_BYTES = 8 * 1024 * 1024
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 2.0
_NAMES = ("wandb-history.jsonl", "wandb-events.jsonl", "output.log")


class Remote(NamedTuple):
    """Where a run is at W&B."""

    entity: str
    project: str
    run: str


class Lines(NamedTuple):
    """New lines of one kind, the first of them at line *start* of the run."""

    start: int
    lines: Sequence[str]

    @property
    def end(self) -> int:
        """Return how many lines there are with these."""
        return self.start + len(self.lines)


class Held(NamedTuple):
    """What the service says that it holds: counts of lines, and the event of the last row."""

    counts: tuple[int, int, int]
    last: str
    is_whole: bool


class ForeignRunError(EvlogError):
    """A run at W&B holds what this log did not bring there."""

    def __init__(self, remote: Remote, url: str, reason: str) -> None:
        super().__init__(remote, url, reason)
        self.remote, self.url, self.reason = remote, url, reason

    def __str__(self) -> str:
        place = "/".join(part for part in self.remote if part)
        return (
            f"Run {place} at {self.url} {self.reason}. Nothing was changed there. "
            "`evlog sync --restart` delivers everything anew, to another run."
        )


class Stream:
    """The lines of *remote*.

    Attributes:
        remote: with the entity that the service said.
    """

    def __init__(self, api: Api, remote: Remote, *, confirm_s: float, settle_s: float) -> None:
        self.api, self.remote = api, remote
        self._confirm_s, self._settle_s = confirm_s, settle_s
        self._held: Held | None = None
        self._confirmed = (0, 0, 0)
        self._least = (0, 0, 0)

    def close(self) -> None:
        """Give the connection back."""
        self.api.close()

    def find(self, confirmed: tuple[int, int, int]) -> None:
        """Ask what is there, until that is no less than what was *confirmed* before.

        Raises:
            SinkUnavailableError: it stays less.
            ForeignRunError: the run is gone.
        """
        self._confirmed = self._least = confirmed
        self._held = self._status()
        if any(confirmed) and not self._is_enough(self._held):
            self._held = self._wait(self._is_enough, "lines that it had confirmed")

    def settle(self, *, is_new: bool) -> None:
        """Make sure that what is there stays so: posts of a client that was killed may still be arriving."""
        if is_new:
            self._held = Held((0, 0, 0), "", True)
            return
        before = self._held
        while True:
            threading.Event().wait(self._settle_s)
            now = self._wait(self._is_enough, "the run")
            if now == before:
                break
            before = now
        self._held = now

    def check_last(self, rows: int, last: str) -> None:
        """Compare the last row with ours, if W&B holds no others.

        Raises:
            ForeignRunError: they differ.
        """
        held = self._held
        if held is None or not held.counts[0]:
            return
        if not held.last or (held.counts[0] == rows and held.last != last):
            raise ForeignRunError(self.remote, self.api.url, "holds rows of somebody else")

    def upsert(self, query: str, **fields: object) -> bool:
        """Make or change the run; tell whether it is new."""
        answer = self.api.ask(
            query,
            {
                "name": self.remote.run,
                "project": self.remote.project,
                "entity": self.remote.entity or None,
                **fields,
            },
        )
        bucket = _at(answer, "upsertBucket", "bucket")
        entity = str(_at(bucket, "project", "entity").get("name") or self.remote.entity)
        project = str(_at(bucket, "project").get("name") or self.remote.project)
        self.remote = Remote(entity, project, self.remote.run)
        return bool(_at(answer, "upsertBucket").get("inserted"))

    def upload(self, uploads: Sequence[Upload]) -> list[str]:
        """Put files of the run where W&B wants them; return their names."""
        if not uploads:
            return []
        names = list(dict.fromkeys(upload.name for upload in uploads))
        answer = _at(
            self.api.ask(FILES, {**self._where("run"), "files": names}),
            "createRunFiles",
        )
        places = {f["name"]: f["uploadUrl"] for f in cast("list[dict[str, str]]", answer.get("files") or [])}
        headers = cast("list[str]", answer.get("uploadHeaders") or [])
        for upload in uploads:
            self.api.upload(places[upload.name], headers, upload.content(), upload.name)
        return names

    def append(
        self,
        rows: Lines,
        stats: Lines,
        output: Lines,
        *,
        summary: str,
        uploaded: list[str],
        ids: str,
    ) -> None:
        """Send what is not there yet, and return when W&B shows all of it.

        Args:
            summary: replaces the run's summary.
            uploaded: names of files that were uploaded.
            ids: the event of the last row.

        Raises:
            SinkUnavailableError: it is not all there; find out how much before trying again.
            ForeignRunError: there is more than was sent.
        """
        held, parts = self._held, (rows, stats, output)
        assert held is not None
        if held.counts[0] == rows.end > rows.start and held.last != ids:
            raise ForeignRunError(self.remote, self.api.url, "holds other rows than the log")
        missing = [
            Lines(max(part.start, count), part.lines[max(0, count - part.start) :])
            for part, count in zip(parts, held.counts, strict=True)
        ]
        want = tuple(max(part.end, count) for part, count in zip(parts, held.counts, strict=True))
        posts = _posts(missing, summary, uploaded)
        self._held = None  # not known until the service has said it
        for body in posts:
            self._post(body)
        self._held = self._shown(cast("tuple[int, int, int]", want))
        self._confirmed = cast("tuple[int, int, int]", tuple(part.end for part in parts))

    def end(self, summary: str, exit_code: int, query: str) -> None:
        """Tell the run's end and wait until W&B knows of it."""
        body = {
            "files": {"wandb-summary.json": {"offset": 0, "content": [summary]}},
            "complete": True,
            "exitcode": exit_code,
        }
        if self._held is not None and self._held.counts != self._confirmed:
            raise ForeignRunError(self.remote, self.api.url, "holds more lines than the log has")
        self._post(orjson.dumps(body))

        def is_over() -> bool:
            found = _at(self.api.ask(query, self._where("name")), "project", "run")
            return found.get("state") not in ("running", "pending")

        if not _poll(is_over, self._confirm_s):
            raise SinkUnavailableError(
                f"W&B at {self.api.url} took the end of run {self.remote.run}, but still shows it as running"
            )

    def _shown(self, want: tuple[int, int, int]) -> Held:
        held = self._wait(
            lambda h: h is not None and all(a >= b for a, b in zip(h.counts, want, strict=True)),
            f"all of {want[0]} rows, {want[1]} lines of machine load and {want[2]} of console",
        )
        if held.counts != want:
            raise ForeignRunError(
                self.remote, self.api.url, f"holds {held.counts[0]} rows where {want[0]} were sent"
            )
        return held

    def _wait(self, is_good: Callable[[Held | None], bool], what: str) -> Held:
        found: list[Held | None] = []

        def look() -> bool:
            found.append(self._status())
            return is_good(found[-1])

        if not _poll(look, self._confirm_s):
            if found[-1] is None and any(self._confirmed):
                raise ForeignRunError(self.remote, self.api.url, "is gone")
            raise SinkUnavailableError(
                f"W&B at {self.api.url} does not show {what} of run {self.remote.run} yet; "
                "it is asked again later"
            )
        held = found[-1]
        assert held is not None
        return held

    def _is_enough(self, held: Held | None) -> bool:
        return (
            held is not None
            and held.is_whole
            and all(a >= b for a, b in zip(held.counts, self._least, strict=True))
        )

    def _status(self) -> Held | None:
        variables = {
            "name": self.remote.run,
            "project": self.remote.project,
            "entity": self.remote.entity or None,
        }
        bucket = _at(self.api.ask(STATUS, variables), "model", "bucket")
        if not bucket:
            return None
        held = _held(bucket)
        # Lines are never taken away: an answer with fewer of them than another one is older.
        most = tuple(max(a, b) for a, b in zip(held.counts, self._least, strict=True))
        self._least = cast("tuple[int, int, int]", most)
        return held

    def _where(self, name: str) -> dict[str, object]:
        return {"entity": self.remote.entity, "project": self.remote.project, name: self.remote.run}

    def _post(self, body: bytes) -> None:
        self.api.post_stream(*self.remote, body)


def _held(bucket: dict[str, object]) -> Held:
    counts = tuple(
        int(cast("int", bucket.get(name) or 0))
        for name in ("historyLineCount", "eventsLineCount", "logLineCount")
    )
    tail: object = orjson.loads(_finite(str(bucket.get("historyTail") or "[]")))
    last = orjson.loads(_finite(str(tail[-1]))) if isinstance(tail, list) and tail else {}
    # A tail that is not the last row comes from another moment than the counts.
    is_whole = not last or last.get("_step") == counts[0] - 1 or "_evlog" not in last
    return Held(cast("tuple[int, int, int]", counts), str(last.get("_evlog", "")), is_whole)


def _finite(text: str) -> str:
    """Return JSON without the bare NaN that W&B has in it, if it has."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    import json

    return json.dumps(json.loads(text, parse_constant=str))


def _at(data: object, *path: str) -> dict[str, object]:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return cast("dict[str, object]", data) if isinstance(data, dict) else {}


def _posts(parts: Sequence[Lines], summary: str, uploaded: list[str]) -> list[bytes]:
    """Return the bodies of the posts: all lines of the first kind, then of the next; last the summary."""
    bodies: list[dict[str, object]] = []
    for name, part in zip(_NAMES, parts, strict=True):
        start, size = 0, 0
        for at, line in enumerate(part.lines):
            if size and size + len(line) > POST_BYTES:
                bodies.append({name: {"offset": part.start + start, "content": part.lines[start:at]}})
                start, size = at, 0
            size += len(line)
        if size or start < len(part.lines):
            bodies.append({name: {"offset": part.start + start, "content": part.lines[start:]}})
    # What is small goes along in one post: the last of each kind.
    posts = _joined([*bodies, {}])
    posts[-1]["wandb-summary.json"] = {"offset": 0, "content": [summary]}
    last = {"files": posts[-1]} | ({"uploaded": uploaded} if uploaded else {})
    return [orjson.dumps({"files": files}) for files in posts[:-1]] + [orjson.dumps(last)]


def _joined(posts: list[dict[str, object]]) -> list[dict[str, object]]:
    """Put neighbouring posts together while they stay small."""
    joined: list[dict[str, object]] = [{}]
    size = 0
    for files in posts:
        here = sum(
            len(line) for chunk in files.values() for line in cast("dict[str, list[str]]", chunk)["content"]
        )
        if size + here > POST_BYTES or set(files) & set(joined[-1]):
            joined.append({})
            size = 0
        joined[-1].update(files)
        size += here
    return joined


def _poll(is_done: Callable[[], bool], limit_s: float) -> bool:
    """Ask again and again, ever more slowly, until *is_done* or *limit_s* are over."""
    deadline, pause = time.monotonic() + limit_s, _FIRST_PAUSE_S
    while not is_done():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        threading.Event().wait(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return True
