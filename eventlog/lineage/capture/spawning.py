"""Starts a process without holding the interpreter's lock.

`os.posix_spawn` and `subprocess` keep the lock until the new program is loaded. That is 0.3 ms on an idle
machine, and ten where the processors are busy, as they are when a job trains: no thread could log meanwhile.
The C library's own function, called through `ctypes`, does not need the lock.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08  # the same on Linux (glibc, musl) and macOS
_ROOM_BYTES = 1024
"""More than any C library needs for the opaque structs."""
_DEFAULTED = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT)


def spawn(words: Sequence[str], environment: Mapping[str, str], stdout: int) -> int:
    """Start the program at the path ``words[0]`` and return its process id.

    It leads a process group of its own, blocks no signals, reads nothing, and prints to *stdout*.

    Raises:
        OSError: it cannot be started.
    """
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        function = library.posix_spawn
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, a C library of another kind
        return spawn_with_lock(words, environment, stdout)
    actions, attributes = (ctypes.create_string_buffer(_ROOM_BYTES) for _ in range(2))
    signals = ctypes.create_string_buffer(_ROOM_BYTES)
    library.posix_spawn_file_actions_init(actions)
    library.posix_spawnattr_init(attributes)
    try:
        library.posix_spawn_file_actions_adddup2(actions, stdout, 1)
        library.posix_spawn_file_actions_addopen(actions, 0, os.fsencode(os.devnull), os.O_RDONLY, 0)
        library.posix_spawn_file_actions_addopen(actions, 2, os.fsencode(os.devnull), os.O_WRONLY, 0)
        flags = ctypes.c_short(_SETPGROUP | _SETSIGDEF | _SETSIGMASK)
        library.posix_spawnattr_setflags(attributes, flags)
        library.posix_spawnattr_setpgroup(attributes, 0)
        library.sigemptyset(signals)
        library.posix_spawnattr_setsigmask(attributes, signals)
        for number in _DEFAULTED:
            library.sigaddset(signals, int(number))
        library.posix_spawnattr_setsigdefault(attributes, signals)
        argv = (ctypes.c_char_p * (len(words) + 1))(*map(os.fsencode, words), None)
        entries = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        envp = (ctypes.c_char_p * (len(entries) + 1))(*entries, None)
        pid = ctypes.c_int()
        code = function(ctypes.byref(pid), os.fsencode(words[0]), actions, attributes, argv, envp)
    finally:
        library.posix_spawn_file_actions_destroy(actions)
        library.posix_spawnattr_destroy(attributes)
    if code:
        raise OSError(code, os.strerror(code), words[0])
    return pid.value


def spawn_with_lock(words: Sequence[str], environment: Mapping[str, str], stdout: int) -> int:
    """Do the same without `ctypes`, which takes 5 ms to import: for when the job waits for it."""
    return os.posix_spawn(
        words[0],
        list(words),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setpgroup=0,
        setsigmask=(),
        setsigdef=_DEFAULTED,
    )
