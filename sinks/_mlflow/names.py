"""Names and texts as MLflow takes them.

MLflow takes letters, digits and ``_ - . space : /`` in names of metrics, params and tags, at most 250, and
nothing that a path would resolve to something else (``a//b``, ``../x``, ``.``). Any other character becomes
``_x<code in hex>_``; an underscore that would read as the begin of such an escape is escaped itself, so that
no two keys meet and `unescape` gives the key back. What is still too long ends in ``_xh<16 hex digits>_``, a
hash of the key: only the recorded map leads back from there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
OURS = "evlog."

_ALLOWED = re.compile(r"[\w\-. :/]")
_PLAIN = re.compile(r"[A-Za-z0-9\-]+(?:[./][A-Za-z0-9\-]+)*")
_BAD_IN_PATH = re.compile(r'[\x00-\x1f\x7f%#?;\\:*"<>|]')
# Whatever follows the digits may begin with an underscore once it is escaped.
_LOOKS_ESCAPED = re.compile(r"_(?=xh?[0-9a-f]*(?:[_/]|[^\w\-. ]))")
_ESCAPED = re.compile(r"_x([0-9a-f]*)_")


def key_name(key: str) -> str:
    """Return the name of a metric, param or tag *key*; no two keys have the same."""
    if _PLAIN.fullmatch(key) and len(key) <= MAX_KEY:
        return key
    return _shortened(key, _escaped(key, lambda c: _ALLOWED.match(c) is not None))


def own_tag(prefix: str, name: str) -> str:
    """Return the name of a tag of ours about *name*, which is one that MLflow takes."""
    return _shortened(prefix + name, prefix + name)


def tag_name(key: str) -> str:
    """Return the name of a user's tag; one that looks like ours is escaped."""
    name = key_name(key)
    return f"_x65_{name[1:]}" if name.startswith(OURS) else name


def file_name(key: str) -> str:
    """Return *key* as a relative path that every artifact store keeps as it is."""
    return _shortened(key, _escaped(key, lambda c: _BAD_IN_PATH.match(c) is None and c.isprintable()))


def model_name(name: str) -> str:
    """Return *name* as the registry takes it: one component, no colon."""
    return re.sub("[/:]", lambda m: _code(m[0]), _shortened(name, name)) or "_x_"


def unescape(name: str) -> str:
    """Return the key that `key_name` made *name* of, unless it was too long."""
    return _ESCAPED.sub(lambda m: chr(int(m[1], 16)) if m[1] else "", name)


def _code(text: str) -> str:
    return "".join(f"_x{ord(c):x}_" for c in text)


def _escaped(key: str, is_good: Callable[[str], bool]) -> str:
    marked = _LOOKS_ESCAPED.sub(_code("_"), key)
    chars = "".join(c if is_good(c) else _code(c) for c in marked)
    head, *rest = chars.split("/")
    name = _part(head)
    for part in rest:
        # A slash beside nothing would be lost in a path: it is written out, and the part goes on.
        name += f"/{_part(part)}" if part and not name.endswith("_x2f_") and name else f"_x2f_{part}"
    return name or "_x_"


def _part(part: str) -> str:
    if part == ".":
        return _code(part)
    return _code(".") + part[1:] if part.startswith("..") else part


def _shortened(key: str, name: str) -> str:
    if len(name) <= MAX_KEY:
        return name
    mark = f"_xh{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:16]}_"
    return name[: MAX_KEY - len(mark)] + mark


def value_text(value: object) -> str:
    """Return a param's *value* as MLflow would: texts bare, the rest as Python or JSON writes it."""
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, (bool, int, float)):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text.replace("\0", "\\u0000")


def cut(text: str, limit: int, where: str) -> str:
    """Return *text*, or as much of it as fits in *limit* characters with a mark that says *where* all is."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    mark = f"… [cut: {len(text)} characters, sha256 {digest}{where}]"
    return text[: limit - len(mark)] + mark


def without_secrets(uri: str) -> str:
    """Return *uri* without user, password and query."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")) if parts.netloc else uri
