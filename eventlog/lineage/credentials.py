"""Finds what must not be written down: names of variables that hold secrets, and addresses with passwords.

Variables of the environment are judged sternly, for nobody asked for each of them. What a user logs by
name is judged in `eventlog.tracker.secrets`.
"""

from __future__ import annotations

import re

_ANYWHERE = (
    "TOKEN",
    "KEY",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "COOKIE",
    "JWT",
    "SIGNATURE",
)
_AS_A_WORD = frozenset({"PASS", "PWD", "PW", "AUTH", "PAT", "PRIVATE", "DSN", "SIG"})
_NO_SECRETS = frozenset({"TOKENIZERS_PARALLELISM"})

# With a bound: a scheme without one is looked for from each letter to the end of a long text.
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,40})://([^\s'\"<>]*)")
_CONDA_TOKEN = re.compile(r"/t/[^/\s]+/")


def is_secret_name(name: str) -> bool:
    """Tell whether a variable of this name may hold a secret."""
    upper = name.upper()
    if upper in _NO_SECRETS:
        return False
    return any(part in upper for part in _ANYWHERE) or not _AS_A_WORD.isdisjoint(
        re.split(r"[^A-Z0-9]+", upper)
    )


def without_credentials(text: str) -> str:
    """Return *text* with the users, passwords and tokens of the addresses in it left out.

    A user without a password stays where it is none (``ssh://git@host``); the query of an address that had
    credentials, or names one, goes too.
    """
    if "://" not in text:
        user, at, rest = text.rpartition("@")
        # `user:password@host:path` is no address of git's, and yet somebody may have tried.
        return rest if at and ":" in user and "/" not in user else text
    return _URL.sub(lambda match: f"{match[1]}://{_bare(match[1].lower(), match[2])}", text)


def _bare(scheme: str, rest: str) -> str:
    start = re.split("[/?]", rest, maxsplit=1)[0]
    if "@" not in start and re.search(r":.*[^0-9].*", start.rpartition("]")[2]) and "@" in rest:
        # A slash in a password: what looks like host and port is user and half of a password.
        rest = ":@" + rest.rpartition("@")[2]
    rest, question, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    is_login = bool(at) and ":" not in user and scheme.endswith("ssh")
    kept = f"{user}@{host}" if is_login and user else host
    address = kept + slash + _CONDA_TOKEN.sub("/t/…/", f"/{path}")[1:]
    has_secret = any(is_secret_name(part.partition("=")[0]) for part in query.split("&"))
    return address if not question or has_secret else f"{address}?{query}"
