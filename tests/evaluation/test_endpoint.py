"""Models behind an endpoint: a real server on this machine that behaves, or does not."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eventlog.evaluation.endpoint import Endpoint, retry_after, shown
from eventlog.evaluation.engine import evaluate
from eventlog.evaluation.engine_errors import BadEvaluationError, ModelCallError
from eventlog.evaluation.results import EvaluationResult
from eventlog.evaluation.runner import ask_all
from tests.evaluation.engine_support import (
    HeldTiming,
    Reply,
    Request,
    Server,
    Sums,
    chat,
    in_turn,
    right,
    serving,
    solve,
    tracker_in,
)

SECRET = "sk-very-secret-0123456789"


def evaluated(root: Path, server: Server, size: int = 1, **options: object) -> EvaluationResult:
    """Evaluate the model at *server* on *size* sums; no wait takes time."""
    with tracker_in(root) as tracker:
        given: dict[str, Any] = {"timing": HeldTiming(), **options}
        return evaluate(Sums(size), Endpoint(server.url, "m"), tracker=tracker, **given)


def test_an_endpoint_is_asked_with_chat_messages(tmp_path: Path) -> None:
    """Model, messages and sampling parameters are sent; tokens are counted."""
    with serving() as server, tracker_in(tmp_path) as tracker:
        model = Endpoint(server.url + "/", "m", temperature=0.0, max_tokens=8, seed=3, system="Be brief.")
        result = evaluate(Sums(10), model, tracker=tracker, concurrency=1)

    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "0+1="},
        ],
        "temperature": 0.0,
        "max_tokens": 8,
        "seed": 3,
    }
    assert (result.metrics["accuracy"], result.usage.prompt_tokens, result.usage.completion_tokens) == (
        0.9,
        100,
        50,
    )


def test_completions_take_several_prompts_in_one_request(tmp_path: Path) -> None:
    """The choices are put back into order, and tokens are shared out."""

    def answer(request: Request) -> Reply:
        prompts = request.body["prompt"]
        assert isinstance(prompts, list)
        choices = [{"index": i, "text": solve(p), "finish_reason": "stop"} for i, p in enumerate(prompts)]
        return Reply({"choices": choices[::-1], "usage": {"prompt_tokens": 11, "completion_tokens": None}})

    with serving(answer) as server, tracker_in(tmp_path) as tracker:
        model = Endpoint(server.url, "m", api="completions")
        result = evaluate(Sums(10), model, tracker=tracker, batch_size=5)

    assert [request.path for request in server.requests] == ["/v1/completions"] * 2
    assert (result.metrics["accuracy"], result.usage.prompt_tokens) == (0.9, 22)


def test_calls_overlap_as_far_as_wanted(tmp_path: Path) -> None:
    """Eight requests are at the server at once: they meet there at a barrier."""
    barrier = threading.Barrier(8, timeout=20)

    def answer(request: Request) -> Reply:
        barrier.wait()
        return right(request)

    with serving(answer) as server:
        result = evaluated(tmp_path, server, 16, concurrency=8, retries=0)

    assert (result.errors, len(server.requests)) == (0, 16)


def test_the_key_is_sent_and_kept_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the log, the results, the parameters or the representation, also if the server repeats it."""
    monkeypatch.setenv("MY_KEY", SECRET)
    refusal = Reply({"error": {"message": f"wrong key {SECRET} for you"}}, status=400)

    with serving(in_turn(refusal)) as server, tracker_in(tmp_path) as tracker:
        model = Endpoint(server.url, "m", api_key_env="MY_KEY")
        result = evaluate(Sums(3), model, tracker=tracker, cache=True, concurrency=1)

    assert server.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert "wrong key *** for you" in str(result.samples[0].error)
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    told = everything + repr((model, model.parameters, result)).encode()
    assert SECRET.encode() not in told


def test_a_password_in_the_url_is_used_and_kept_nowhere(tmp_path: Path) -> None:
    """As with the key; the server gets it in the way of HTTP."""
    with serving(in_turn(Reply(b"", status=500))) as server, tracker_in(tmp_path) as tracker:
        model = Endpoint(server.url.replace("http://", "http://user:passw0rd@"), "m")
        result = evaluate(Sums(3), model, tracker=tracker, cache=True, concurrency=1, retries=0)

    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"passw0rd" not in everything + repr((model, model.parameters, result)).encode()


@pytest.mark.parametrize(
    "trouble",
    [
        Reply({"error": "busy"}, status=503),
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply(b"<html>Bad gateway</html>", status=502),
        Reply(b"<html>Welcome to the proxy</html>"),
        Reply(b'{"choices": [{"message": {"content": "4'),
        Reply({"choices": []}),
        Reply({"choices": [1]}),
        Reply({"choices": [{"message": "4"}]}),
        Reply([]),
        Reply(b"\xff\xfe"),
        Reply(b"", headers={"Content-Encoding": "gzip"}),
        Reply(b"no gzip", headers={"Content-Encoding": "gzip"}),
        Reply(b"{}", headers={"Content-Length": "1000", "Connection": "close"}),
        None,
    ],
    ids=[
        "503",
        "429",
        "bad gateway",
        "page of a proxy",
        "half",
        "no choice",
        "number",
        "text",
        "list",
        "no utf-8",
        "empty gzip",
        "no gzip",
        "too short",
        "dropped",
    ],
)
def test_trouble_that_passes_costs_a_retry(tmp_path: Path, trouble: Reply | None) -> None:
    """Errors of the server, rubbish and dropped connections are followed by the right answer."""
    with serving(in_turn(trouble, trouble)) as server:
        result = evaluated(tmp_path, server, timeout_s=5.0)

    assert (result.errors, result.samples[0].output, len(server.requests)) == (0, "1", 3)


def test_a_server_that_hangs_costs_a_retry(tmp_path: Path) -> None:
    """The call is given up after its time, and made again."""
    with serving(in_turn(Reply({}, hangs=True))) as server:
        result = evaluated(tmp_path, server, timeout_s=0.3)

    assert (result.errors, len(server.requests)) == (0, 2)


def test_trouble_that_stays_costs_the_sample(tmp_path: Path) -> None:
    """After the last retry the sample has failed, with what the server said."""
    with serving(lambda _: Reply({"error": {"message": "out\nof memory"}}, status=500)) as server:
        result = evaluated(tmp_path, server, 2, retries=2, concurrency=1)

    assert [sample.error for sample in result.samples] == [
        f"no answer: {server.url} answered 500: out of memory"
    ] * 2
    assert len(server.requests) == 6


def test_a_request_that_the_server_refuses_is_not_repeated(tmp_path: Path) -> None:
    """A prompt that is too long stays too long; the next one is asked."""
    with serving(in_turn(Reply({"error": {"message": "too long"}}, status=400))) as server:
        result = evaluated(tmp_path, server, 3, concurrency=1)

    assert [sample.error is None for sample in result.samples] == [False, True, True]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "code"), [(401, None), (404, None), (429, "insufficient_quota"), (400, "model_not_found")]
)
def test_what_no_prompt_can_mend_stops_the_evaluation(tmp_path: Path, status: int, code: str | None) -> None:
    """A wrong key, a wrong model or an empty account is told once, not for a thousand samples."""
    reply = Reply({"error": {"message": "go away", "code": code}}, status=status)

    with serving(lambda _: reply) as server, pytest.raises(ModelCallError, match="go away"):
        evaluated(tmp_path, server, 100, concurrency=1)

    assert len(server.requests) == 1


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    """The wait is at least what the server asks for."""
    timing = HeldTiming()
    reply = Reply({"error": "slow down"}, status=429, headers={"Retry-After": "37"})

    with serving(in_turn(reply)) as server:
        result = evaluated(tmp_path, server, timing=timing)

    assert result.errors == 0
    assert sum(timing.waits) == pytest.approx(37)


def test_a_pause_that_a_server_asks_for_holds_for_all_calls(tmp_path: Path) -> None:
    """On a clock that stands still the next prompt waits as long as the one that was sent away."""

    class Stopped(HeldTiming):
        async def sleep(self, seconds: float) -> None:
            self.waits.append(seconds)

    timing = Stopped()
    reply = Reply({"error": "slow down"}, status=429, headers={"Retry-After": "37"})

    with serving(in_turn(reply)) as server:
        evaluated(tmp_path, server, 2, timing=timing, concurrency=1)

    assert [round(wait) for wait in timing.waits[1:]] == [
        37,
        37,
    ]  # after the backoff: that call, and the next


def test_a_server_that_wants_hours_ends_the_evaluation(tmp_path: Path) -> None:
    """It can go on then; nobody waits in front of a bar that stands still."""
    reply = Reply({"error": "come back tomorrow"}, status=429, headers={"Retry-After": "86400"})

    with serving(lambda _: reply) as server, pytest.raises(ModelCallError, match="86400 s"):
        evaluated(tmp_path, server)


def test_retry_after_is_read_in_all_its_forms() -> None:
    """Seconds, milliseconds in a header of its own, or a date; rubbish is no wait."""
    date = email.utils.formatdate(time.time() + 100, usegmt=True)

    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert 90 < (retry_after({"retry-after": date}) or 0) <= 100
    assert [retry_after({"retry-after": word}) for word in ("", "soon", "-3", "nan")] == [None] * 4


def test_a_port_where_nobody_listens_fails_the_samples(tmp_path: Path) -> None:
    """It may be a server that starts anew, so it is tried again first."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    with tracker_in(tmp_path) as tracker:
        result = evaluate(
            Sums(2),
            Endpoint(f"http://127.0.0.1:{port}/v1", "m"),
            tracker=tracker,
            retries=1,
            timing=HeldTiming(),
        )

    assert result.errors == 2
    assert f"http://127.0.0.1:{port}/v1: " in str(result.samples[0].error)


@pytest.mark.parametrize(
    ("content", "output"),
    [
        (None, ""),
        ("", ""),
        ([{"type": "text", "text": "1"}, {"type": "text", "text": "0"}], "10"),
        ("é中🦜", "é中🦜"),
        ("x" * 2_000_000, "x" * 2_000_000),
    ],
    ids=["null", "empty", "parts", "unicode", "huge"],
)
def test_any_content_is_an_output(tmp_path: Path, content: object, output: str) -> None:
    """A model that says nothing has said the empty text."""
    with serving(lambda _: chat(content)) as server:
        result = evaluated(tmp_path, server)

    assert (result.samples[0].output, result.errors) == (output, 0)


def test_a_cut_answer_is_marked(tmp_path: Path) -> None:
    """Why the model stopped is kept, unless it was done."""
    with serving(in_turn(chat("4", finish="length"))) as server:
        result = evaluated(tmp_path, server, 2, concurrency=1)

    assert [sample.finish for sample in result.samples] == ["length", None]


def test_requests_are_spaced_by_the_rate_limit(tmp_path: Path) -> None:
    """Thirty a minute are two seconds apart."""
    timing = HeldTiming()

    with serving() as server:
        evaluated(tmp_path, server, 5, rate_limit=30, timing=timing)

    assert sum(timing.waits) == pytest.approx(8.0)


def test_an_endpoint_can_be_asked_without_a_benchmark() -> None:
    """For judges: prompts in, outcomes out, more than once."""
    with serving() as server:
        model = Endpoint(server.url, "m")
        first, second = (
            ask_all(model, ["1+1=", "2+1="]),
            ask_all(model, [[{"role": "user", "content": "5+1="}]]),
        )

    assert [getattr(outcome.answer, "text", None) for outcome in first + second] == ["2", "3", "6"]


def test_an_endpoint_serves_several_threads() -> None:
    """As a judge that scores samples side by side: no thread closes another one's connections."""
    with serving() as server, ThreadPoolExecutor(4) as pool:
        model = Endpoint(server.url, "m")
        outcomes = pool.map(lambda i: ask_all(model, [f"{i}+1=", f"{i}+1="]), [5] * 40)
        said = [getattr(outcome.answer, "text", outcome) for found in outcomes for outcome in found]

    assert said == ["6"] * 80


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://u:p@Host:8000/v1/?key=x#y", "http://host:8000/v1"),
        ("https://[::1]:9/v1", "https://[::1]:9/v1"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, expected: str) -> None:
    """User, password, query and fragment stay away."""
    assert shown(url) == expected


@pytest.mark.parametrize(
    "url", ["", "host/v1", "ftp://host", "http://", "http://host:99999999/", "http://[x/"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(BadEvaluationError, match="base URL"):
        Endpoint(url, "m")
