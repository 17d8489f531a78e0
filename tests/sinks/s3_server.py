"""A local S3: moto's server in a thread of this process, with a new bucket for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from fsspec import AbstractFileSystem


class Bucket(NamedTuple):
    """An empty bucket, and a file system that sees what is in it without this project's code."""

    endpoint: str
    name: str
    files: AbstractFileSystem

    @property
    def url(self) -> str:
        """Return the bucket as a URL."""
        return f"s3://{self.name}"

    def contents(self) -> dict[str, bytes]:
        """Return all objects by their keys."""
        self.files.invalidate_cache()
        return {key.partition("/")[2]: self.files.cat_file(key) for key in self.files.find(self.name)}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Yield the address of a server."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return a new bucket, and set credentials as a user would."""
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(
        endpoint_url=s3_server, key="testing", secret="testing", skip_instance_cache=True
    )
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    files.mkdir(name)
    return Bucket(s3_server, name, files)
