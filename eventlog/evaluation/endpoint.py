"""A model behind an OpenAI-compatible endpoint: ``/chat/completions`` or ``/completions``.

The key comes from an environment variable and is in no log: not among the parameters, not in messages.
Needs ``pip install 'evlog[eval]'``.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from eventlog.errors import EvlogError
from eventlog.evaluation.engine_errors import BadEvaluationError, Kind, ModelCallError
from eventlog.evaluation.limits import kind_of_status
from eventlog.evaluation.model import Answer, CallDefaults, Prompt
from eventlog.values import text

if TYPE_CHECKING:
    import ssl

    import httpx

API_KEY = "OPENAI_API_KEY"
OPENAI = "https://api.openai.com/v1"
TIMEOUT_S = 120.0
_HOPELESS_CODES = ("insufficient_quota", "invalid_api_key", "model_not_found", "billing_hard_limit_reached")
_MAX_ERROR = 300


class MissingClientError(EvlogError, ImportError):
    """The package that speaks HTTP is not installed."""

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "Models behind an endpoint need httpx. Install it: pip install 'evlog[eval]'"


class Endpoint:
    """A model that is asked over HTTP.

    Args:
        base_url: up to and including ``/v1``. A password in it is used, but never shown.
        model: its name at the endpoint.
        api: ``chat`` sends messages, ``completions`` sends the bare prompt, several in one call.
        api_key_env: environment variable with the key; if it is not set, none is sent.
        system: a system message in front of each text prompt.
        extra: more fields of each request, such as ``{"top_p": 0.9}``.
    """

    is_sync = False

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api: Literal["chat", "completions"] = "chat",
        api_key_env: str = API_KEY,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        system: str | None = None,
        extra: Mapping[str, object] | None = None,
        timeout_s: float = TIMEOUT_S,
        concurrency: int = 8,
    ) -> None:
        if api not in ("chat", "completions"):
            raise BadEvaluationError(f"api is 'chat' or 'completions', not {api!r}")
        if system is not None and api == "completions":
            raise BadEvaluationError("completions have no system message: use api='chat'")
        self.name, self.api = model, api
        self.base_url, self.shown_url = base_url.rstrip("/"), shown(base_url)
        given = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        self._fields = {key: value for key, value in given.items() if value is not None} | dict(extra or {})
        about = {"base_url": self.shown_url, "api": api} | ({} if system is None else {"system": system})
        self.parameters: Mapping[str, object] = about | self._fields
        self.defaults = CallDefaults(
            batch_size=1,
            largest_batch=1 if api == "chat" else None,
            concurrency=concurrency,
            timeout_s=timeout_s,
        )
        self._system = system
        self._key = os.environ.get(api_key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise BadEvaluationError(f"the key in {api_key_env} holds a character that no header can carry")
        self._tls: ssl.SSLContext | None = None
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def __repr__(self) -> str:
        return f"Endpoint({self.shown_url!r}, {self.name!r})"

    async def ask(self, prompts: Sequence[Prompt]) -> Sequence[Answer | Exception]:
        """Send the prompts: for ``completions`` in one request, for ``chat`` one after the other."""
        if self.api == "completions":
            return await self._complete(prompts)
        return [await self._chat(prompt) for prompt in prompts]

    async def close(self) -> None:
        """Close the connections of the running loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _chat(self, prompt: Prompt) -> Answer:
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        if self._system is not None and isinstance(prompt, str):
            messages = [{"role": "system", "content": self._system}, *messages]
        (choice,), usage = await self._post("/chat/completions", {"messages": messages}, 1)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise ModelCallError(f"{self.shown_url} sent a choice without a message", "transient")
        said = message.get("content")
        return _answer(message.get("refusal") if said is None else said, choice, usage)

    async def _complete(self, prompts: Sequence[Prompt]) -> list[Answer | Exception]:
        if not all(isinstance(prompt, str) for prompt in prompts):
            raise ModelCallError("this benchmark asks with chat messages: use api='chat'", "fatal")
        body: dict[str, object] = {"prompt": prompts[0] if len(prompts) == 1 else list(prompts)}
        choices, usage = await self._post("/completions", body, len(prompts))
        # Tokens are told for the whole request only.
        shares = _shares(usage, len(prompts))
        return [_answer(c.get("text"), c, share) for c, share in zip(choices, shares, strict=True)]

    async def _post(
        self, path: str, body: Mapping[str, object], count: int
    ) -> tuple[list[dict[str, object]], tuple[int, int] | None]:
        """Return the *count* choices, in the order of the prompts, and tokens of prompts and answers."""
        import httpx

        client = self._connected()
        try:
            response = await client.post(
                self.base_url + path, json={"model": self.name, **self._fields, **body}
            )
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise ModelCallError(f"{self.shown_url}: {self._clean(str(error))}", "fatal") from None
        except httpx.RequestError as error:
            what = self._clean(str(error)) or type(error).__name__
            raise ModelCallError(f"{self.shown_url}: {what}", "transient") from None
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            reply = response.json()
            choices = reply["choices"]
            usable = isinstance(choices, list) and len(choices) == count
            ordered = sorted(choices, key=lambda choice: int(choice.get("index") or 0)) if usable else []
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            ordered = []
        if not ordered:
            # Proxies answer with pages of their own when what is behind them is away.
            beginning = self._clean(response.text[:100])
            raise ModelCallError(f"{self.shown_url} sent no answer: {beginning!r}", "transient")
        return ordered, _usage(reply.get("usage"))

    def _connected(self) -> httpx.AsyncClient:
        """Return a client of the running loop; connections of another loop cannot be used in this one."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            try:
                import httpx
            except ImportError as error:
                raise MissingClientError from error
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            # Times are limited by the runner; the number of calls too.
            client = self._clients[loop] = httpx.AsyncClient(
                headers=headers,
                timeout=None,
                limits=httpx.Limits(max_connections=None),
                verify=self._certificates(),
            )
        return client

    def _certificates(self) -> ssl.SSLContext | bool:
        """Return what a server's certificate is checked with: read once, for it takes a tenth of a second."""
        if self._tls is None and self.shown_url.startswith("https:"):
            import httpx

            self._tls = httpx.create_ssl_context()
        return False if self._tls is None else self._tls

    def _refusal(self, response: httpx.Response) -> ModelCallError:
        status, message, code = response.status_code, response.text, None
        try:
            error = response.json().get("error")
            if isinstance(error, dict):
                message, code = str(error.get("message") or message), error.get("code")
            elif isinstance(error, str):
                message = error
        except (ValueError, AttributeError, RecursionError):
            pass  # no JSON: the text is all there is
        kind: Kind = "fatal" if code in _HOPELESS_CODES else kind_of_status(status)
        said = " ".join(self._clean(message).split())[:_MAX_ERROR]
        hint = ""
        if status == 401:
            hint = ". The key comes from an environment variable: see api_key_env"
        return ModelCallError(
            f"{self.shown_url} answered {status}: {said}{hint}", kind, retry_after(response.headers)
        )

    def _clean(self, message: str) -> str:
        """Return *message* without what must not be in a log."""
        message = message.replace(self.base_url, self.shown_url)
        return text(message.replace(self._key, "***") if self._key else message)


def shown(url: str) -> str:
    """Return *url* without user, password, query and fragment: these may hold secrets.

    Raises:
        BadEvaluationError: it is no URL of HTTP.
    """
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:
        raise BadEvaluationError(f"the base URL cannot be used: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadEvaluationError("the base URL begins with http:// or https:// and a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return urlunsplit((parts.scheme, host + port, parts.path.rstrip("/"), "", ""))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how long a server asks to wait, in seconds: ``retry-after-ms`` or ``Retry-After``."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _until(value)
        if seconds >= 0:
            return seconds
    return None


def _until(date: str) -> float:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return -1.0


def _answer(said: object, choice: Mapping[str, object], usage: tuple[int, int] | None) -> Answer:
    if isinstance(said, list):  # parts, as some servers send them
        said = "".join(str(part.get("text") or "") for part in said if isinstance(part, dict))
    finish = choice.get("finish_reason")
    return Answer(
        text="" if said is None else text(str(said)),
        prompt_tokens=None if usage is None else usage[0],
        completion_tokens=None if usage is None else usage[1],
        finish=finish if isinstance(finish, str) else None,
    )


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None


def _usage(found: object) -> tuple[int, int] | None:
    try:
        usage = msgspec.convert(found, _Usage)
    except msgspec.ValidationError:
        return None
    return usage.prompt_tokens, usage.completion_tokens or 0


def _shares(usage: tuple[int, int] | None, count: int) -> list[tuple[int, int] | None]:
    """Return whole tokens for each of *count* prompts that add up to *usage*."""
    if usage is None:
        return [None] * count
    prompt, completion = usage
    return [
        (prompt // count + (i < prompt % count), completion // count + (i < completion % count))
        for i in range(count)
    ]
