"""A Spark master and two workers on this machine."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.waiting import wait_until

WORKERS = 2
SETTINGS = {
    "spark.executor.memory": "512m",
    "spark.driver.memory": "512m",
    "spark.sql.shuffle.partitions": "2",
}


def why_not() -> str | None:
    """Return why there can be no Spark here, None if there can."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed: pip install 'evlog[spark]'"
    return None if shutil.which("java") or os.environ.get("JAVA_HOME") else "there is no Java"


@contextmanager
def running() -> Iterator[str]:
    """Yield the address of a master whose workers have come, for as long as the block runs."""
    port, web = _free_port(), _free_port()
    address = f"spark://127.0.0.1:{port}"
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evlog-spark-")))
        _start(stack, scratch, "master.Master", "--port", str(port), "--webui-port", str(web))
        for number in range(WORKERS):
            place = str(scratch / f"worker{number}")
            options = ("--webui-port", "0", "--cores", "1", "--memory", "1g", "--work-dir", place, address)
            _start(stack, scratch, "worker.Worker", *options)
        wait_until(lambda: _alive(web) == WORKERS, "both workers came", timeout_s=120)
        yield address


def _start(stack: ExitStack, scratch: Path, part: str, *options: str) -> None:
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    log = stack.enter_context((scratch / f"{part}.log").open("a"))
    # The script replaces itself by Java: its process id is Java's.
    process = subprocess.Popen(
        [home / "bin" / "spark-class", f"org.apache.spark.deploy.{part}", "--host", "127.0.0.1", *options],
        env={
            **os.environ,
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
        },
        stdout=log,
        stderr=log,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _alive(web: int) -> int:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", web, timeout=5)) as connection:
            connection.request("GET", "/json/")
            return int(json.loads(connection.getresponse().read())["aliveworkers"])
    except (OSError, ValueError, KeyError):
        return 0


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
