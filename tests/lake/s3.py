"""A local S3 in a process of its own: what is under the lake holds the interpreter's lock while it waits."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from tests.waiting import wait_until

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Server(NamedTuple):
    """A server that runs."""

    port: int

    @property
    def endpoint(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str) -> int:
        """Return the status of the answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path)
            return connection.getresponse().status

    def new_bucket(self) -> str:
        """Make a bucket; return its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        assert self.request("PUT", f"/{name}") == 200
        return name


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server while the block runs."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **CREDENTIALS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port)

    def answers() -> bool:
        assert process.poll() is None
        try:
            return server.request("GET", "/moto-api/") == 200
        except OSError:
            return False

    try:
        wait_until(answers, "the S3 server answers", timeout_s=60)
        yield server
    finally:
        process.kill()
        process.wait()
