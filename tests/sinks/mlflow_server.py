"""A real `mlflow server` for tests, and a proxy before it that spoils chosen requests."""

from __future__ import annotations

import atexit
import functools
import http.client
import http.server
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from tests.waiting import wait_until

QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Row(NamedTuple):
    """A point as it lies in the server's database."""

    key: str
    step: int
    value: float
    time_ms: int
    is_nan: bool


class MLflowServer:
    """A server that can be stopped and started again on its port.

    Attributes:
        uri: its tracking URI.
        database: the SQLite file, to be read beside it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "mlflow.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self.database}"),
            *("--artifacts-destination", str(self.directory / "artifacts")),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**os.environ, **QUIET},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._is_up, f"the server says it is well ({self._log()})", timeout_s=90)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log()
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _log(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Kill it and everything it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    # --- what its database holds ------------------------------------------------------------------

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the server's own file."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def run_ids(self, run_id: str) -> list[str]:
        """Return the active runs that were made for a run of the log."""
        sql = (
            "SELECT r.run_uuid FROM runs r JOIN tags t ON r.run_uuid = t.run_uuid "
            "WHERE t.key = 'evlog.run_id' AND t.value = ? AND r.lifecycle_stage = 'active' ORDER BY 1"
        )
        return [str(row[0]) for row in self.query(sql, run_id)]

    def points(self, mlflow_run_id: str) -> list[Row]:
        """Return every point of a run, sorted."""
        sql = (
            'SELECT key, step, value, "timestamp", is_nan FROM metrics WHERE run_uuid = ? ORDER BY 1, 2, 4, 3'
        )
        return [Row(str(k), s, v, t, bool(n)) for k, s, v, t, n in self.query(sql, mlflow_run_id)]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def shared_server() -> MLflowServer:
    """Return this process's server, started at the first call and killed at exit."""
    directory = Path(tempfile.mkdtemp(prefix="evlog-mlflow-"))
    server = MLflowServer(directory)

    def end() -> None:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(end)
    server.start()
    return server


# --- a proxy that spoils requests ---------------------------------------------------------------------


class Fault(NamedTuple):
    """What happens to one request.

    Attributes:
        reaches: how much of it the server gets: ``nothing``, ``half`` or ``all``.
        answers: a status that the client gets instead of the answer; None closes the connection.
    """

    reaches: str
    answers: int | None = None
    retry_after: str | None = None


CUT = Fault("nothing")
TORN = Fault("half")
LOST_ANSWER = Fault("all")
TAKEN_BUT_500 = Fault("all", 500)
BUSY = Fault("nothing", 429, "7")
DOWN = Fault("nothing", 503)
FAULTS = (CUT, TORN, LOST_ANSWER, TAKEN_BUT_500, BUSY, DOWN)


class FaultyProxy:
    """Passes requests on to a server, but for those that a fault was set for.

    Attributes:
        count: requests so far.
        faults: what happens to the request of a number, from 1.
    """

    def __init__(self, port: int) -> None:
        self.count = 0
        self.faults: dict[int, Fault] = {}
        self.log: list[str] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                proxy._handle(self, port)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, request: http.server.BaseHTTPRequestHandler, port: int) -> None:
        body = _body(request)
        with self._lock:
            self.count += 1
            fault = self.faults.get(self.count)
            self.log.append(f"{request.command} {request.path[:80]}")
        if fault is not None and fault.reaches == "half":
            _send_half(request, body, port)
        status, headers, answer = 0, [("", "")], b""
        if fault is None or fault.reaches == "all":
            status, headers, answer = _pass_on(request, body, port)
        if fault is None:
            _answer(request, status, headers, answer)
        elif fault.answers is not None:
            extra = [("Retry-After", fault.retry_after)] if fault.retry_after else []
            _answer(request, fault.answers, extra, b"spoilt")
        else:
            request.close_connection = True


def _body(request: http.server.BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _pass_on(
    request: http.server.BaseHTTPRequestHandler, body: bytes, port: int
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


def _send_half(request: http.server.BaseHTTPRequestHandler, body: bytes, port: int) -> None:
    head = f"{request.command} {request.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as half:
        half.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])


def _answer(
    request: http.server.BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    request.send_response_only(status)
    for key, value in headers:
        if key.lower() not in _HOP_BY_HOP:
            request.send_header(key, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "host", "keep-alive"})
