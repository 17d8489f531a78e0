"""A run that several machines look at: its ring is recovered by the one that can know that it may."""

from __future__ import annotations

import pytest

from eventlog.codec import decode
from eventlog.events import SegmentOpened
from eventlog.storage.layout import log_directory
from eventlog.storage.liveness import SILENCE_S, is_alive
from eventlog.storage.options import WriterOptions
from eventlog.storage.repair import recover_run
from tests.simos.disk import Disk
from tests.simos.life import OPTIONS, RUN, Life
from tests.simos.system import SimSystem
from tests.simos.world import World

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

ELSEWHERE = [("another-host", "boot-9"), ("here", "boot-9")]
"""Another machine, and one that merely has the same name."""


def begin(world: World) -> Life:
    """Let a writer begin on the disk's own machine, with events on the disk and in its ring."""
    life = world.open()
    assert life is not None
    world.do(life, log=4, sync=True)
    world.do(life, log=4)
    return life


@pytest.mark.parametrize(("host", "boot"), ELSEWHERE)
@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("silent_s", [1.0, SILENCE_S + 1, 1e6])
def test_ring_is_never_recovered_over_the_network(
    host: str, boot: str, is_dead: bool, silent_s: float
) -> None:
    """Locks of the disk's machine are not seen from here, so however long it was silent, the ring stays."""
    world = World()
    life = begin(world)
    if is_dead:
        world.kill(life)
    world.disk.advance(silent_s)
    before = world.disk.contents()

    done = recover_run(RUN, system=SimSystem(world.disk, host=host, boot=boot, kind="nfs4"))

    assert world.disk.contents() == before
    assert [r.events for r in done] == ([] if silent_s < SILENCE_S else [0])
    assert all("it can be recovered on here" in r.problem for r in done)


@pytest.mark.parametrize(("host", "boot"), ELSEWHERE)
def test_two_hosts_never_both_recover(host: str, boot: str) -> None:
    """The disk's own machine does it, once, also while the other one tries at any of its calls."""
    for at in range(1, 60):
        world = World()
        world.kill(begin(world))
        world.disk.advance(SILENCE_S * 2)
        far, near = SimSystem(world.disk, host=host, boot=boot, kind="nfs4"), SimSystem(world.disk)

        def try_too(_: object, at: int = at, far: SimSystem = far, near: SimSystem = near) -> None:
            if len(near.calls) == at:
                recover_run(RUN, system=far)

        near.at_call = try_too
        done = recover_run(RUN, system=near)
        near.die()

        assert [r.events for r in done] == [4]
        assert world.problems() == []


def test_paused_writer_is_not_taken_for_dead() -> None:
    """On its own machine, a writer that has slept for a day still has its lock, and goes on."""
    world = World()
    life = begin(world)
    world.disk.advance(86_400.0)

    assert recover_run(RUN, system=SimSystem(world.disk)) == []

    world.do(life, log=3, sync=True)
    assert world.end(life)
    assert world.settle().findings == []


def header_of(disk: Disk) -> SegmentOpened:
    """Return the header of the run's first segment."""
    (first, *_) = sorted(path for path in disk.contents() if path.endswith(".jsonl"))
    header = decode(disk.contents()[first].split(b"\n")[0])
    assert isinstance(header, SegmentOpened)
    return header


@pytest.mark.parametrize(
    ("host", "boot", "silent_s", "is_gone", "expected"),
    [
        ("here", "boot-0", 1e6, False, True),  # it is asked, and lives however long it was silent
        ("here", "boot-0", 1.0, True, False),  # it is asked, and is gone
        ("another-host", "boot-9", 1.0, True, True),  # it cannot be asked
        ("another-host", "boot-9", 1e6, False, False),  # it cannot be asked, and is silent for long
        ("here", "boot-9", 1.0, True, True),  # another machine of the same name cannot be asked
    ],
)
def test_writer_with_a_memory_ring_is_asked_where_it_can_be(
    host: str, boot: str, silent_s: float, is_gone: bool, expected: bool
) -> None:
    """Without a lock, the process tells; from other machines, how long its files were silent."""
    world = World(options=_memory())
    life = begin(world)
    if is_gone:
        life.system.die()
    world.disk.advance(silent_s)
    system = SimSystem(world.disk, host=host, boot=boot, kind="nfs4")

    alive = is_alive(log_directory(RUN), life.writer, header_of(world.disk), is_sealed=False, system=system)

    assert alive is expected


def _memory() -> WriterOptions:
    import msgspec

    return msgspec.structs.replace(OPTIONS, ring="memory")
