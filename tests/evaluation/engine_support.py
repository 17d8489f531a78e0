"""What the tests of the engine share: sums to solve, a clock that nobody waits for, a local endpoint."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

from eventlog import Tracker, TrackingConfig
from eventlog.evaluation.benchmark import BaseBenchmark, Item
from eventlog.evaluation.model import Prompt


class Sums(BaseBenchmark):
    """Items such as ``3+1=``; the right answer is ``4``."""

    def __init__(self, size: int = 10, name: str = "sums", items: Sequence[Item] | None = None) -> None:
        super().__init__(name)
        made = [{"id": f"q{i}", "question": f"{i}+1=", "answer": str(i + 1)} for i in range(size)]
        self.items: list[dict[str, object]] = [dict(item) for item in (made if items is None else items)]

    def load_dataset(self, split: str = "test", num_samples: int | None = None) -> Sequence[Item]:
        return self.items[:num_samples]

    def extract_answer(self, text: str) -> object:
        return text.strip() or None

    def check_answer(self, predicted: object, gold: object) -> bool:
        return predicted == gold


def solve(prompt: Prompt) -> str:
    """Return the right answer, wrong for every seventh."""
    assert isinstance(prompt, str)
    number = int(prompt.split("+")[0])
    return str(number + (2 if number % 7 == 3 else 1))


def solver(prompts: Sequence[Prompt]) -> list[str]:
    """Answer a list of prompts."""
    return [solve(prompt) for prompt in prompts]


def tracker_in(root: Path) -> Tracker:
    """Return a tracker without sinks, whose runs lie in the project ``demo``."""
    return Tracker((), TrackingConfig(project="demo"), output_dir=root)


class HeldTiming:
    """A clock that goes on only when somebody waits.

    Attributes:
        waits: how long somebody waited, in seconds.
    """

    def __init__(self) -> None:
        self.now, self.waits = 1000.0, list[float]()

    def monotonic_s(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.wait(seconds)
        await asyncio.sleep(0)


class Reply:
    """What the server does: *body* as JSON unless it is bytes; None closes the connection without a word."""

    def __init__(
        self,
        body: object,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        hangs: bool = False,
    ) -> None:
        self.body, self.status, self.headers, self.hangs = body, status, dict(headers or {}), hangs


class Request:
    """What the server was sent."""

    def __init__(self, path: str, headers: Mapping[str, str], body: dict[str, object]) -> None:
        self.path, self.headers, self.body = path, headers, body

    @property
    def prompt(self) -> str:
        """Return the bare prompt, or the content of the last message."""
        if "prompt" in self.body:
            return cast("str", self.body["prompt"])
        return cast("list[dict[str, str]]", self.body["messages"])[-1]["content"]


def chat(
    content: object, *, prompt_tokens: int = 10, completion_tokens: int = 5, finish: str = "stop"
) -> Reply:
    """Return a reply of ``/chat/completions``."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return Reply({"choices": [choice], "usage": usage})


def right(request: Request) -> Reply:
    """Solve the sum."""
    return chat(solve(request.prompt))


class Server(ThreadingHTTPServer):
    """An endpoint on this machine.

    Attributes:
        requests: all that came, in order.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], Reply | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.requests, self.closing = answer, list[Request](), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have gone."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for 40 ms

    def do_POST(self) -> None:
        server = cast("Server", self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, dict(self.headers), body)
        server.requests.append(request)
        reply = server.answer(request)
        if reply is None:
            self.close_connection = True
            return
        if reply.hangs:
            server.closing.wait(30)
            self.close_connection = True
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(data)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answer: Callable[[Request], Reply | None] = right) -> Iterator[Server]:
    """Run a server while the block runs."""
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def in_turn(*replies: Reply | None) -> Callable[[Request], Reply | None]:
    """Return an answer that gives *replies* one after the other, and then the right ones."""
    left = list(replies)
    lock = threading.Lock()

    def answer(request: Request) -> Reply | None:
        with lock:
            if left:
                return left.pop(0)
        return right(request)

    return answer
