"""File systems of our own, on loop devices: made, cut off from power, and never left behind.

Everything happens in a child process with a mount namespace of its own (`apart`): its mounts end with
it, however it ends. A loop device is set up so that the kernel detaches it with its last user
(autoclear), and its backing file loses its name at once. So a test that is killed leaves nothing.

Two workers never meet: the kernel gives a free device to one of them, and the mounts of one are not seen
by the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import pickle
import shutil
import signal
import struct
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

T = TypeVar("T")

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_NAMESPACE, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_DETACH = 2
_GET_FREE, _CONFIGURE, _CLEAR = 0x4C82, 0x4C0A, 0x4C01
_AUTOCLEAR = 4
_FORGET_CACHE = 0x1261  # BLKFLSBUF
_GOING_DOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number
_NO_LOG_FLUSH = struct.pack("I", 2)


class FileSystem(NamedTuple):
    """A kind of file system to try things on.

    Attributes:
        name: as it stands in reports.
        kind: for mount(2).
        make: command that makes it in a file, whose name is put behind.
        options: for mount(2).
        size_bytes: of the backing file, which is sparse.
    """

    name: str
    kind: str
    make: tuple[str, ...]
    options: str
    size_bytes: int


_EXT4 = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,nodiscard", "-J", "size=4")
ORDERED = FileSystem("ext4, data=ordered", "ext4", _EXT4, "data=ordered", 96 << 20)
WRITEBACK = FileSystem("ext4, data=writeback", "ext4", _EXT4, "data=writeback", 96 << 20)
SMALL_XFS = FileSystem(
    "XFS with a small log", "xfs", ("mkfs.xfs", "-q", "-f", "--unsupported", "-l", "size=8m"), "", 128 << 20
)
XFS = FileSystem("XFS", "xfs", ("mkfs.xfs", "-q", "-f"), "", 320 << 20)


def why_not(file_system: FileSystem) -> str | None:
    """Return why *file_system* cannot be had here, or None if it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "loop devices need root"
    if not Path("/dev/loop-control").exists():
        return "there is no /dev/loop-control"
    if shutil.which(file_system.make[0]) is None:
        return f"{file_system.make[0]} is not installed"
    kinds = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    if file_system.kind not in kinds:
        return f"the kernel has no {file_system.kind}"
    return _why_no_mount()


@functools.cache
def _why_no_mount() -> str | None:
    """Try what a container may forbid even to root."""
    try:
        apart(_try_loop)
    except OSError as error:
        return f"loop devices cannot be mounted here: {error}"
    return None


def _try_loop() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 20)
        os.close(_attach(file.fileno())[0])


# --- a process apart ------------------------------------------------------------------------


class ApartError(Exception):
    """What was done in a process apart failed; the text is the traceback there."""


def apart(work: Callable[[], T], *, as_root_of_its_own: bool = False) -> T:
    """Do *work* in a child process with its own mounts, and return what it returns.

    Args:
        as_root_of_its_own: in a user namespace too, as ``unshare -Urm`` does: needs no root.

    Raises:
        OSError: the kernel does not let us, or *work* raised it.
        ApartError: *work* raised something else, or its process died.
    """
    return cast("T", _collect(_start(work, as_root_of_its_own=as_root_of_its_own)))


def all_apart(works: Sequence[Callable[[], T]]) -> list[T]:
    """Do all *works* at once, each as `apart` does, and return what they return, in order."""
    started = [_start(work) for work in works]
    try:
        return [cast("T", _collect(started.pop(0))) for _ in works]
    finally:
        for pid, pipe in started:
            os.close(pipe)
            _end(pid)


def _start(work: Callable[[], object], *, as_root_of_its_own: bool = False) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        # A process group of its own: whatever it starts ends with it.
        os.setpgid(0, 0)
        _child(work, write_end, as_root_of_its_own=as_root_of_its_own)
    os.close(write_end)
    return pid, read_end


def _collect(started: tuple[int, int]) -> object:
    pid, pipe_end = started
    status = 0
    try:
        with os.fdopen(pipe_end, "rb") as pipe:
            data = pipe.read()
    finally:
        status = _end(pid)
    if not data:
        raise ApartError(f"the process apart died: {os.waitstatus_to_exitcode(status)}")
    outcome, value = pickle.loads(data)
    if outcome == "returned":
        return cast("object", value)
    raise value if isinstance(value, OSError) else ApartError(value)


def _end(pid: int) -> int:
    """End a process apart with all that it has started, and return its wait status."""
    # It has told us all it had to; only if it died instead, others of its group may be left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _child(work: Callable[[], object], pipe: int, *, as_root_of_its_own: bool) -> None:
    """Do *work*, tell the parent, and end without anything that the parent's exit would do."""
    try:
        try:
            _enter_namespace(as_root_of_its_own=as_root_of_its_own)
            answer: tuple[str, object] = ("returned", work())
        except OSError as error:
            answer = ("failed", error)
        except BaseException:
            answer = ("raised", traceback.format_exc())
        data = pickle.dumps(answer)
        while data:
            data = data[os.write(pipe, data) :]
    finally:
        os._exit(0)


def _enter_namespace(*, as_root_of_its_own: bool) -> None:
    user, group = os.getuid(), os.getgid()
    flags = _NEW_NAMESPACE | (_NEW_USER if as_root_of_its_own else 0)
    _check(_LIBC.unshare(flags), "unshare")
    if as_root_of_its_own:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(_LIBC.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None), "mount")


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


# --- mounts -----------------------------------------------------------------------------------


def mount(source: str, target: Path, kind: str, options: str = "") -> None:
    """Mount *source* at *target*."""
    arguments = (source.encode(), os.fsencode(target), kind.encode(), 0, options.encode())
    _check(_LIBC.mount(*arguments), f"mount {source}")


def unmount(target: Path, *, detach: bool = False) -> None:
    """Unmount *target*; with *detach* also while it is in use."""
    _check(_LIBC.umount2(os.fsencode(target), _DETACH if detach else 0), f"unmount {target}")


def sync_all(path: Path) -> None:
    """Write everything to the disk that the file system of *path* has in memory."""
    fd = os.open(path, os.O_RDONLY)
    try:
        _check(_LIBC.syncfs(fd), f"syncfs {path}")
    finally:
        os.close(fd)


@contextlib.contextmanager
def small_tmpfs(size_bytes: int) -> Iterator[Path]:
    """Give a file system in memory with room for *size_bytes*; only in a process apart."""
    target = Path(tempfile.mkdtemp(prefix="evlog-tmpfs-"))
    try:
        mount("tmpfs", target, "tmpfs", f"size={size_bytes}")
        try:
            yield target
        finally:
            unmount(target, detach=True)
    finally:
        target.rmdir()


class Disk:
    """A mounted file system on a loop device.

    Attributes:
        path: where it is mounted.
        number: of the loop device.
    """

    def __init__(self, file_system: FileSystem, path: Path, device: int, number: int) -> None:
        self.file_system, self.path, self.number = file_system, path, number
        self._device = device
        self._root = -1

    def mount(self) -> None:
        """Mount, after whatever repair of its journal the kernel does."""
        mount(f"/dev/loop{self.number}", self.path, self.file_system.kind, self.file_system.options)
        self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def unmount(self) -> None:
        """Unmount; nobody may use it any more."""
        self._forget_root()
        unmount(self.path)
        # What the device's cache holds of changes that were never committed is gone after a power cut.
        # It would be seen by the next mount, and ext4 would take it for damage.
        fcntl.ioctl(self._device, _FORGET_CACHE)

    def cut_power(self) -> None:
        """Stop the file system as a power cut does: what is not on the disk now never will be."""
        fcntl.ioctl(self._root, _GOING_DOWN, _NO_LOG_FLUSH)

    def take_pages_one_by_one(self) -> None:
        """Let no request be longer than a page: a backing file that is full takes the whole of it or fails.

        The loop driver counts a longer one of which a part was taken as done: a disk that lies. For the same
        reason the blocks of the file systems here are pages: a request of smaller ones may straddle two.
        """
        Path(f"/sys/block/loop{self.number}/queue/max_sectors_kb").write_text("4")

    def release(self) -> None:
        """Give mount and device back, in whatever state they are."""
        self._forget_root()
        with contextlib.suppress(OSError):
            unmount(self.path, detach=True)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._device, _CLEAR)
        os.close(self._device)

    def _forget_root(self) -> None:
        fd, self._root = self._root, -1
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def disk(file_system: FileSystem, directory: Path | None = None) -> Iterator[Disk]:
    """Give a mounted *file_system*, whose backing file is made below *directory*; only in a process apart.

    Args:
        directory: default one in memory, for speed.

    Raises:
        OSError: it cannot be made or mounted.
    """
    if directory is None and Path("/dev/shm").is_dir():
        directory = Path("/dev/shm")
    handle, name = tempfile.mkstemp(prefix="evlog-disk-", dir=directory)
    try:
        os.truncate(handle, file_system.size_bytes)
        made = subprocess.run([*file_system.make, name], capture_output=True, check=False)
        if made.returncode != 0:
            raise OSError(errno.EIO, made.stderr.decode(errors="replace").strip(), name)
        device, number = _attach(handle)
    finally:
        # The device holds the file: without a name it goes when the device does.
        Path(name).unlink()
        os.close(handle)
    path = Path(tempfile.mkdtemp(prefix="evlog-mount-"))
    mounted = Disk(file_system, path, device, number)
    try:
        mounted.mount()
        yield mounted
    finally:
        mounted.release()
        path.rmdir()


def _attach(backing: int) -> tuple[int, int]:
    """Return a descriptor of a loop device over *backing*, and its number."""
    info = struct.pack("5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, b"", b"", b"", 0, 0)
    order = struct.pack("II", backing, 0) + info + bytes(64)
    for _ in range(100):
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            number = fcntl.ioctl(control, _GET_FREE)
        finally:
            os.close(control)
        device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _CONFIGURE, order)
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # somebody else was faster
                raise
        else:
            return device, number
    raise OSError(errno.EBUSY, "no free loop device", "/dev/loop-control")
