"""Hears what is written to a stream of Python's, without standing in its way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable


class Tee:
    """Listens to one stream; `remove` stops it. Called twice, `remove` does nothing.

    Args:
        heard: called with each text, after the stream has taken it. It must not raise.
    """

    def __init__(self, stream: object, heard: Callable[[str], object]) -> None:
        self._stream, self._heard = stream, heard
        self._is_on = True
        self._own = vars(stream).get("write") if hasattr(stream, "__dict__") else None
        self._write: Callable[[str], object] = stream.write  # type: ignore[attr-defined]
        self._mine = self._pass_on
        # Raises for a stream without room for it: then that one is not listened to.
        stream.write = self._mine  # type: ignore[attr-defined]

    def _pass_on(self, text: str) -> object:
        try:
            return self._write(text)
        finally:
            # Also what a closed terminal did not take.
            if self._is_on and isinstance(text, str):
                self._heard(text)

    def remove(self) -> None:
        """Give the stream its method back, unless somebody has put another over ours since."""
        self._is_on = False
        if getattr(self._stream, "__dict__", {}).get("write") is not self._mine:
            return
        with contextlib.suppress(AttributeError):
            if self._own is None:
                del self._stream.write  # type: ignore[attr-defined]
            else:
                self._stream.write = self._own  # type: ignore[attr-defined]
