"""What the `wandb` sink asks of W&B's service, over HTTP.

Runs are made and read with the GraphQL operations, and their lines are posted to the file stream, that the
SDK itself uses; doing so without the SDK gives each request's outcome and the choice of line offsets.
Every failure is an error that says whether to try again.

Not safe for use by several threads.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import netrc
import os
import time
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from eventlog.errors import EvlogError, SinkUnavailableError

DEFAULT_URL = "https://api.wandb.ai"
_IDLE_S = 3.0
_BUSY = {408, 425, 429}
_WAYS_OUT = {
    401: "The API key is missing or wrong: run `wandb login`, or set WANDB_API_KEY",
    403: "The API key may not write there: check entity, project and the key's permissions",
    404: "There is no such run or project: check the project; `evlog sync --restart` makes another run",
    409: "W&B does not give a deleted run's id again: `evlog sync --restart` makes another run",
}

UPSERT = """
mutation UpsertBucket($name: String, $project: String, $entity: String, $groupName: String,
    $displayName: String, $notes: String, $commit: String, $config: JSONString, $host: String,
    $program: String, $repo: String, $jobType: String, $tags: [String!]) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, groupName: $groupName,
      displayName: $displayName, notes: $notes, commit: $commit, config: $config, host: $host,
      jobProgram: $program, jobRepo: $repo, jobType: $jobType, tags: $tags}) {
    bucket { id name displayName project { name entity { name } } }
    inserted
  }
}"""
STATUS = """
query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) {
      name historyLineCount eventsLineCount logLineCount historyTail config summaryMetrics
    }
  }
}"""
STATE = """
query RunState($project: String!, $entity: String, $name: String!) {
  project(name: $project, entityName: $entity) { run(name: $name) { id state } }
}"""
HISTORY = """
query HistoryPage($entity: String, $project: String!, $run: String!, $minStep: Int64!, $maxStep: Int64!,
    $pageSize: Int!) {
  project(name: $project, entityName: $entity) {
    run(name: $run) { history(minStep: $minStep, maxStep: $maxStep, samples: $pageSize) }
  }
}"""
FILES = """
mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    runID uploadHeaders files { name uploadUrl }
  }
}"""


class WandBRefusedError(EvlogError):
    """W&B will not take a request, and somebody has to do something about it."""

    def __init__(self, what: str, url: str, status: int, answer: str) -> None:
        super().__init__(what, url, status, answer)
        self.what, self.url, self.status, self.answer = what, url, status, answer

    def __str__(self) -> str:
        said = f": {self.answer}" if self.answer else ""
        way_out = _WAYS_OUT.get(self.status, "Nothing of the log is lost: deliver again once it is mended")
        return f"W&B at {self.url} answered {self.status} to {self.what}{said}. {way_out}."


class Api:
    """A connection to the service at *url*, kept between requests.

    Attributes:
        refusals: how many requests in a row were refused.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float) -> None:
        self.url, self.key = url, key
        self.refusals = 0
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode(),
            "Content-Type": "application/json",
            "User-Agent": "evlog",
        }

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, query: str, variables: Mapping[str, object]) -> dict[str, object]:
        """Return the data that a GraphQL operation answers with.

        Raises:
            SinkUnavailableError: try again later.
            WandBRefusedError: it will not.
        """
        name = query.split("(", 1)[0].split()[-1]
        known = {key: value for key, value in variables.items() if value is not None}
        body = orjson.dumps({"operationName": name, "query": query, "variables": known})
        answer = self._request("POST", "/graphql", name, body)
        errors = answer.get("errors")
        if errors:
            said = "; ".join(str(e.get("message", e)) for e in cast("list[dict[str, object]]", errors))
            raise WandBRefusedError(name, self.url, 200, said[:300])
        return cast("dict[str, object]", answer.get("data") or {})

    def post_stream(self, entity: str, project: str, run: str, body: bytes) -> None:
        """Post lines (or an empty object: "still alive") to the run's file stream.

        Raises:
            SinkUnavailableError, WandBRefusedError: as `ask`.
        """
        path = f"/files/{quote(entity, safe='')}/{quote(project, safe='')}/{quote(run, safe='')}/file_stream"
        self._request("POST", path, f"the file stream of run {run}", body)

    def upload(self, url: str, headers: list[str], data: bytes, name: str) -> None:
        """Put *data* where `CreateRunFiles` said."""
        named = dict(h.split(":", 1) for h in headers)
        parts = urlsplit(url)
        own = Api(f"{parts.scheme}://{parts.netloc}", "", timeout_s=self._timeout_s)
        own._headers = named | {"Content-Type": named.get("Content-Type", "application/octet-stream")}
        if f"{parts.scheme}://{parts.netloc}" == self.url:
            own._headers["Authorization"] = self._headers["Authorization"]
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            own._request("PUT", path, f"the upload of {name}", data)
        finally:
            own.close()

    def _request(self, method: str, path: str, what: str, body: bytes) -> dict[str, object]:
        status, headers, data = self._exchange(method, path, what, body)
        if status in _BUSY or status >= 500:
            wait = _retry_after_s(headers.get("Retry-After"))
            raise SinkUnavailableError(
                f"W&B at {self.url} answered {status} to {what}; it is tried again later", wait
            )
        if status >= 300:
            raise WandBRefusedError(what, self.url, status, _message(data))
        self.refusals = 0
        with contextlib.suppress(orjson.JSONDecodeError):
            answer = orjson.loads(data) if data else {}
            return answer if isinstance(answer, dict) else {}
        return {}

    def _exchange(
        self, method: str, path: str, what: str, body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request, never twice: whoever called finds out what arrived."""
        try:
            connection = self._open()
            connection.request(method, self._prefix + path, body, self._headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            said = str(error) or type(error).__name__
            raise SinkUnavailableError(
                f"W&B at {self.url} cannot be reached ({what}: {said}); check WANDB_BASE_URL and the network"
            ) from error
        self._used_at = time.monotonic()
        return answer.status, dict(answer.headers), data

    @property
    def _prefix(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def _open(self) -> http.client.HTTPConnection:
        # A server drops idle connections, and a post into a dropped one leaves open whether it arrived.
        if self._connection is not None and time.monotonic() - self._used_at < _IDLE_S:
            return self._connection
        self.close()
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        if proxy and parts.scheme == "https":
            self._connection = kind(urlsplit(proxy).netloc, timeout=self._timeout_s)
            self._connection.set_tunnel(parts.hostname or "", parts.port or 443)
        else:
            self._connection = kind(parts.netloc, timeout=self._timeout_s)
        return self._connection


def _message(data: bytes) -> str:
    with contextlib.suppress(orjson.JSONDecodeError):
        answer = orjson.loads(data)
        if isinstance(answer, dict):
            errors = answer.get("errors") or answer.get("error") or answer
            if isinstance(errors, list) and errors and isinstance(errors[0], dict):
                errors = errors[0].get("message", errors)
            return str(errors)[:300]
    return data[:300].decode(errors="replace")


def _retry_after_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return None


# --- who and where: as `wandb login` left it --------------------------------------------------------


def configured(name: str) -> str | None:
    """Return ``base_url``, ``entity`` or ``project`` from the environment or from W&B's settings file."""
    value = os.environ.get(f"WANDB_{name.upper()}")
    if value:
        return value
    directory = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings = ConfigParser(interpolation=None)
    with contextlib.suppress(ConfigError, OSError, UnicodeDecodeError):
        settings.read(directory / "settings")
    return settings.get("default", name, fallback=None)


def api_key(url: str) -> str:
    """Return the API key for *url*: from WANDB_API_KEY or the netrc file that `wandb login` writes.

    Raises:
        WandBRefusedError: there is none.
    """
    if key := os.environ.get("WANDB_API_KEY"):
        return key.strip()
    host = urlsplit(url).hostname or ""
    for name in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        if not name:
            continue
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            found = netrc.netrc(Path(name).expanduser()).authenticators(host)
            if found and found[2]:
                return found[2]
    raise WandBRefusedError("everything", url, 401, "no API key was found")
