"""The stand-in's HTTP side: reads requests, meets the faults, answers."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from tests.standin.faults import Fault, Faults
from tests.standin.graphql import GraphQLError, answer, operation_name
from tests.standin.service import Offsets, Request, RunState, Service

KEY = "local-" + "k" * 40


class StandIn:
    """The service as a context manager: it serves, with a thread for each connection, until it is left.

    Attributes:
        faults: what goes wrong next.
        service: all that it holds.
    """

    def __init__(self, offsets: Offsets = "overwrite") -> None:
        self.faults = Faults()
        self.service = Service(offsets)
        self._handlers: set[socket.socket] = set()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nobody from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self._handlers):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """Return the address that ``WANDB_BASE_URL`` takes."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def run(self, project: str, name: str) -> RunState:
        """Return a run that it holds."""
        return self.service.runs[project, name]

    @property
    def only_run(self) -> RunState:
        """Return the one run that it holds."""
        (run,) = self.service.runs.values()
        return run

    def requests(self, kind: str | None = None) -> list[Request]:
        """Return what it was sent, in order."""
        return [r for r in list(self.service.requests) if kind in (None, r.kind)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = stand_in

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are killed leave their connections broken."""


class _CutError(Exception):
    """The connection ends here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.stand_in._handlers.add(self.connection)

    def finish(self) -> None:
        self.server.stand_in._handlers.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        """Answer GraphQL and posts to a file stream."""
        self._serve()

    def do_PUT(self) -> None:
        """Take a file."""
        self._serve()

    def _serve(self) -> None:
        stand_in = self.server.stand_in
        try:
            kind = self._kind_by_path()
            fault = stand_in.faults.take(kind) if kind else None
            if fault is not None and fault.way == "cut_before":
                self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
                raise _CutError
            body = self._content(self._body())
            if not kind:
                kind = operation_name(body)
                fault = stand_in.faults.take(kind)
            with stand_in.service.lock:
                stand_in.service.requests.append(Request(kind, self.path, body))
            if fault is not None and fault.way in ("status", "hang", "cut_before"):
                self._refuse(fault)
                return
            status, result = self._result(kind, body, fault)
            if fault is not None and fault.way in ("lose_answer", "hang_after"):
                self._refuse(fault)
            self._answer(status, result, is_cut=fault is not None and fault.way == "cut_inside")
        except (_CutError, OSError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _kind_by_path(self) -> str:
        if self.path == "/graphql":
            return ""
        if self.path.endswith("/file_stream"):
            return "file_stream"
        return "upload" if self.path.startswith("/storage/") else self.path

    def _content(self, data: bytes) -> Any:
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        if self.path.startswith("/storage/"):
            return data
        try:
            return json.loads(data) if data else {}
        except ValueError:
            return {}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _result(self, kind: str, body: Any, fault: Fault | None) -> tuple[int, dict[str, Any]]:
        service = self.server.stand_in.service
        expected = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        if kind != "upload" and self.headers.get("Authorization") != expected:
            return 401, {"errors": [{"message": "user is not logged in"}]}
        with service.lock:
            if kind == "upload":
                is_known = service.upload(unquote(self.path.removeprefix("/storage/")), body)
                return (200 if is_known else 404), {}
            if kind == "file_stream":
                return self._stream(body)
            if self.path != "/graphql":
                return 200, {}
            try:
                return 200, {"data": answer(service, body, self.server.stand_in.url, fault)}
            except GraphQLError as error:
                return error.status, {"data": None, "errors": [{"message": error.message}]}

    def _stream(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        service = self.server.stand_in.service
        _, _, _, project, name, _ = self.path.split("/")
        run = service.find_run(unquote(project), unquote(name))
        if run is None or run.is_deleted:
            return 404, {"error": "run not found"}
        run.stream(body, service.offsets)
        return 200, {"exitcode": None, "limits": {}}

    def _refuse(self, fault: Fault) -> None:
        if fault.way == "status":
            self._answer(fault.code, {"error": f"status {fault.code} was asked for"}, headers=fault.headers)
            return
        if fault.release is not None:
            fault.release.wait(60)
        raise _CutError

    def _answer(
        self,
        status: int,
        result: dict[str, Any],
        *,
        headers: tuple[tuple[str, str], ...] = (),
        is_cut: bool = False,
    ) -> None:
        data = json.dumps(result).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if is_cut else data)
        self.wfile.flush()
        if is_cut:
            raise _CutError
