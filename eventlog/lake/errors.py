"""What can go wrong with a lake, and what other people's errors become."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from eventlog.errors import EvlogError

INSTALL = "pip install 'evlog[lake]'"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_HINTS = (
    (r"NoSuchBucket|NotFound.*bucket", "There is no such bucket. Create it first."),
    (
        r"AccessDenied|\b403\b|Forbidden|SignatureDoesNotMatch|InvalidAccessKeyId",
        "Check the credentials and rights.",
    ),
    (r"Permission denied|Os \{ code: 13", "Check the rights of that directory."),
    (
        r"tcp connect|dns error|timed? ?out|Connection refused|error sending request",
        "Nobody answers there. Check the network, AWS_ENDPOINT_URL and --option.",
    ),
    (
        r"credential|169\.254\.169\.254",
        "Give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    ),
    (
        r"Unknown scheme|unsupported scheme|Unable to recogni[sz]e URL",
        "Give a directory or a URL such as s3://bucket/lake.",
    ),
)


class LakeError(EvlogError):
    """The lake cannot be read or written."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class LakePackageError(EvlogError, ImportError):
    """A package is missing that lakes, or an engine over them, need."""

    def __init__(self, package: str, command: str) -> None:
        super().__init__(package, command)
        self.package, self.command = package, command

    def __str__(self) -> str:
        return f"The package {self.package!r} is missing. Install it: {self.command}"


class ConflictError(Exception):
    """Somebody else has changed what a commit builds on: look again, and begin anew."""


@contextmanager
def lake_errors(url: str) -> Iterator[None]:
    """Raise what the libraries of others raise inside the block as errors of ours.

    Raises:
        LakeError: the lake cannot be read or written.
        LakePackageError: a package is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in ("deltalake", "pyarrow") if find_spec(name) is None]
    if missing:
        raise LakePackageError(missing[0], INSTALL)
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError) as error:
        raise LakeError(url, reason_of(error)) from error
    except Exception as error:
        # obstore's own are no OSError; its module may not be there at all.
        if type(error).__module__.startswith("obstore"):
            raise LakeError(url, reason_of(error)) from error
        raise


def reason_of(error: BaseException) -> str:
    """Return the last cause that *error* tells of, and a way out where we know one."""
    text = _ANSI.sub("", str(error)).replace("↳", " ")
    lines = [line.strip() for line in text.partition("Debug source")[0].splitlines() if line.strip()]
    code = _S3_CODE.search(text)
    told = [line for line in lines if not line.startswith("<")]
    what = f"{told[0]}: {told[-1]}" if len(told) > 1 else told[0] if told else type(error).__name__
    if code is not None:
        what = f"{told[0] if told else 'refused'}: {code[1]}"
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text, re.IGNORECASE)), "")
    return f"{what[:300].rstrip('. ')}. {hint}".rstrip()
