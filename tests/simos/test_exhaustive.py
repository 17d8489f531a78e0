"""Everything that can go wrong, at every call of a run: open, log, rotate, sync, seal, close, recover."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eventlog.storage.layout import log_directory
from tests.simos.faults import FULL, NEEDS_ROOM, Fault
from tests.simos.life import RUN, Life
from tests.simos.system import CHANGING, Call, SimSystem
from tests.simos.world import World, recover_run

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

SCRIPT = [
    (3, None),
    (2, True),
    (2, False),
    (3, True),
    (9, True),
    (5, False),
    (2, True),
    (8, True),
    (2, True),
    (4, None),
]
ERRORS = ["EIO", "ENOSPC", "EDQUOT", "ESTALE", "EROFS", "lie", "lie-seen", "hang"]


@contextmanager
def plan(world: World, *parts: object) -> Iterator[None]:
    """Tell with a failure what led to it."""
    try:
        yield
    except BaseException as problem:
        problem.add_note(f"plan: {', '.join(map(str, parts))}; trace: {world.trace}")
        raise


def play(world: World, *faults: Fault, is_closed: bool = True) -> None:
    """Play the script: it rotates, syncs and ends properly, if nothing is in its way."""
    life = world.open(*faults)
    if life is None:
        return
    for log, sync in SCRIPT:
        if not world.do(life, log=log, sync=sync):
            return
        world.disk.advance(3.0)
    if is_closed:
        world.end(life)


def script_calls() -> list[Call]:
    """Return the calls that change something when the script is played."""
    world = World()
    play(world)
    (life,) = world.all.values()
    return [call for call in life.system.calls if call.name in CHANGING]


CALLS = script_calls()
AT_EVERY_CALL = range(1, len(CALLS) + 1)
# Those that are not of a segment that was just sealed.
SYNCS = [a.number for a, b in itertools.pairwise(CALLS) if a.name == "sync" and b.name != "close"]
SEAL = next(a.number for a, b in itertools.pairwise(CALLS) if a.name == "sync" and b.name == "close")
# A run whose disk fails on the way, so that there are two rings and a segment that was given up. The sync
# fails, the close of its file, and the making of another ring.
FAILING = {
    "whole": None,
    "rewritten": Fault("lie-seen", SYNCS[2]),
    "in memory": Fault("EIO", SYNCS[2], times=3),
}


# A sync in the middle of a segment, the one before its seal counts, and a write without room.
BEFORE_A_KILL = [
    Fault("lie", SYNCS[1]),
    Fault("EIO", SEAL),
    Fault("EIO", SEAL, times=3),
    Fault("ENOSPC", SEAL - 1),
]


def test_script_rotates_and_syncs_what_matters() -> None:
    """A sync that reaches a header only would prove nothing when it fails."""
    files = [call.path for call in CALLS if call.name == "create" and str(call.path).endswith(".jsonl")]
    syncs = Counter(CALLS[number - 1].path for number in SYNCS)

    assert len(files) == 3
    assert all(syncs[file] >= 2 for file in files), "the first sync of a segment reaches its header"


def test_script_without_faults_ends_with_everything() -> None:
    """The script itself: all is read, nothing is found wrong, only segments are left."""
    world = World()

    play(world)

    assert all(path.endswith(".jsonl") for path in world.disk.contents())
    found = world.settle(choose=random.Random(1).randrange)
    (life,) = world.all.values()
    assert found.steps[life.writer] == life.logged
    assert found.findings == []
    assert world.wrong_seals() == world.wrong_headers() == []
    assert len(life.logged) == sum(log for log, _ in SCRIPT)
    assert {path.rpartition(".")[2] for path in world.disk.contents()} == {"jsonl"}


@pytest.mark.parametrize("kind", ["kill", "kill-half"])
def test_kill_at_every_call_loses_nothing(kind: str) -> None:
    """Whatever the process was about to ask for, every event whose call had returned is read back."""
    for at in AT_EVERY_CALL:
        world = World()
        with plan(world, kind, at):
            play(world, Fault(kind, at))

            assert world.problems(choose=random.Random(at).randrange) == []


def test_power_cut_at_every_call_keeps_what_was_synced() -> None:
    """Any subset of what was not synced may be there; what a sync has reached is."""
    for at in AT_EVERY_CALL:
        for seed in range(6):
            world, choose = World(), random.Random(1000 * at + seed).randrange
            with plan(world, "power cut", at, "seed", seed):
                play(world, Fault("kill", at))

                world.cut_power(choose)

                assert world.problems(choose=choose) == []


def test_power_cut_takes_no_directory_that_somebody_else_has_made() -> None:
    """Who made the names that lead to a log may have been killed before they were durable."""
    for at in range(1, 15):
        for seed in range(6):
            world, choose = World(), random.Random(1000 * at + seed).randrange
            with plan(world, "killed at", at, "seed", seed):
                play(world, Fault("kill", at))
                life = world.open()
                assert life is not None
                world.do(life, log=3, sync=True)

                world.cut_power(choose)

                assert world.problems(choose=choose) == []


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("crowd", [3, 60])
def test_fault_at_every_call_costs_nothing(kind: str, crowd: int) -> None:
    """Training sees nothing, the log ends properly, everything is in it or counted.

    Meanwhile a few events are logged by other threads, or more than the ring can hold.
    """
    for at in AT_EVERY_CALL:
        for times in (1, 3):
            world = World(crowd=crowd)
            with plan(world, kind, at, times):
                play(world, Fault(kind, at, times=times))
                assert world.wrong_headers() == []

                found = world.settle(choose=random.Random(at).randrange)
                assert world.lives == []
                for life in world.all.values():
                    assert found.steps[life.writer] == life.logged
                    assert found.dropped.get(life.writer, 0) + life.untold == life.dropped
                    if kind in FULL and CALLS[at - 1].name in NEEDS_ROOM and crowd == 3:
                        assert found.findings == [], "want of room is no reason to give a file up"
                        assert world.wrong_seals() == []


@pytest.mark.parametrize("fault", [*FAILING.values(), *BEFORE_A_KILL])
@pytest.mark.parametrize("kind", ["kill", "kill-half"])
def test_kill_while_the_disk_fails_loses_nothing(fault: Fault | None, kind: str) -> None:
    """Also between a failed sync and its rewrite, at every call, a kill costs nothing."""
    for at in range(SYNCS[1], len(CALLS) + 20):
        for seed in range(4):
            world, choose = World(), random.Random(1000 * at + seed).randrange
            with plan(world, fault, kind, at, "seed", seed):
                play(world, *([fault] if fault else []), Fault(kind, at))

                assert world.problems(choose=choose) == []


def with_old_ring() -> tuple[World, Life]:
    """Return a world whose writer has gone on in memory: its only ring that is a file is the old one."""
    world = World(crowd=0)  # so little that no seal comes, whose sync is another one
    life = world.open()
    assert life is not None
    world.do(life, log=3, sync=True)
    # The next calls: a write, the sync that fails, the close of its file, the making of another ring.
    life.injector.add(Fault("lie-seen", life.system.changes + 2, times=3))
    world.do(life, log=3, sync=True)
    world.disk.advance(3.0)
    assert life.chain.ring_path is None
    assert len(rings(world)) == 1
    return world, life


def test_second_failure_while_only_the_old_ring_is_a_file_loses_nothing() -> None:
    """That ring stays until what it holds is on the disk."""
    for kind, at, later in itertools.product(("lie-seen", "EIO"), range(1, 8), (1, 2, 3)):
        world, life = with_old_ring()
        with plan(world, kind, at, later):
            begin = life.system.changes
            life.injector.add(Fault(kind, begin + at))
            life.injector.add(Fault("kill", begin + at + later))
            while world.do(life, log=1, sync=True):
                world.disk.advance(3.0)

            assert world.problems(choose=random.Random(at).randrange) == []


@pytest.mark.parametrize("is_closed", [False, True])
def test_old_ring_goes_when_it_is_of_no_use(is_closed: bool) -> None:
    """When what it held is synced, or the log has ended."""
    world, life = with_old_ring()

    is_done = world.end(life) if is_closed else world.do(life, log=1, sync=True)

    assert is_done
    assert rings(world) == []


def rings(world: World) -> list[str]:
    """Return the rings that are there."""
    return [path for path in world.disk.contents() if path.endswith(".ring")]


def test_ring_has_an_owner_as_long_as_it_has_a_name() -> None:
    """Nobody may find one without a lock while its writer lives, and recover it."""
    world, gone = World(), list[Call]()
    life = world.open()
    assert life is not None

    def look(call: Call) -> None:
        if call.name == "unlink" and call.path is not None and call.path.suffix == ".ring":
            gone.append(call)
            assert world.disk.file(call.path).lock

    life.system.at_call = look
    world.do(life, log=4, sync=True)

    assert world.end(life)
    assert len(gone) == 1


def test_room_that_a_seal_has_made_is_given_back_at_once() -> None:
    """What a seal's sync has put on the disk may be written over, also if no other sync follows."""
    world = World(crowd=0)
    life = world.open()
    assert life is not None
    while life.chain.synced.seq == 0:
        world.do(life, log=1, sync=False)

    world.do(life, log=25)

    assert life.dropped == 0


# --- recovery --------------------------------------------------------------------------------------


def leave(how: str) -> World:
    """Return a world whose writer was killed: some is synced, some written, some in the ring only."""
    world, fault = World(), FAILING[how]
    play(world, *([fault] if fault else []), is_closed=False)
    for life in world.lives:
        world.do(life, log=0, sync=False)
        world.do(life, log=5)
    for life in list(world.lives):
        world.kill(life)
    return world


def calls_of_recovery(how: str) -> range:
    """Return the numbers of the calls of one recovery."""
    world, system = leave(how), None
    system = SimSystem(world.disk)
    recover_run(RUN, system=system)
    return range(1, system.changes + 1)


@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("kind", ["kill", "kill-half", *ERRORS])
def test_recovery_may_fail_at_every_call(how: str, kind: str) -> None:
    """Killed or failing at any call, it does no harm, and the next one does the rest."""
    for at in calls_of_recovery(how):
        world = leave(how)
        with plan(world, how, kind, at):
            world.recover(Fault(kind, at))

            assert world.problems(choose=random.Random(at).randrange) == []


@pytest.mark.parametrize("how", FAILING)
def test_power_cut_at_every_call_of_a_recovery_keeps_what_was_synced(how: str) -> None:
    """What the writer had synced does not depend on how far a recovery came; its segment is whole or not."""
    for at in calls_of_recovery(how):
        for seed in range(4):
            world, choose = leave(how), random.Random(1000 * at + seed).randrange
            old = world.disk.contents().keys()
            with plan(world, how, "power cut", at, "seed", seed):
                world.recover(Fault("kill", at))

                world.cut_power(choose)

                new = {path: data for path, data in world.disk.contents().items() if path not in old}
                segments = [data for path, data in new.items() if path.endswith(".jsonl")]
                assert all(b'"reason":"recovered"' in data[-100:] for data in segments)
                assert world.problems(choose=choose) == []


@pytest.mark.parametrize("how", FAILING)
def test_recoveries_that_meet_at_any_call_do_the_work_once(how: str) -> None:
    """While one is at any of its calls, another one runs from beginning to end."""
    for at in range(1, len(calls_of_recovery(how)) + 60):
        world = leave(how)
        first = SimSystem(world.disk)

        def run_another(call: Call, at: int = at, first: SimSystem = first, world: World = world) -> None:
            if len(first.calls) == at:
                first.at_call = None
                recover_run(RUN, system=SimSystem(world.disk))

        first.at_call = run_another
        with plan(world, how, "another at", at):
            recover_run(RUN, system=first)
            first.die()

            found = world.settle(choose=random.Random(at).randrange)
            for writer, steps in found.steps.items():
                assert steps.keys() >= world.owed[writer]


def test_ring_that_a_power_cut_brought_back_costs_nothing() -> None:
    """Its name is there again, empty, and so are the first segments: what was recovered stays."""
    for at in range(1, 20):
        world = leave("whole")
        (recovery,) = world.recover() or []
        assert recovery.segment is not None
        log = world.disk.directory(log_directory(RUN))
        for name in [name for name in log.names if name != recovery.segment.name]:
            world.disk.file(log_directory(RUN) / name).cached.clear()
        log.change({f"{recovery.writer}.000001.ring": world.disk.new_file()})
        kept = world.disk.contents()[str(recovery.segment)]

        world.recover(Fault("EIO", at))
        world.recover()

        assert world.disk.contents()[str(recovery.segment)] == kept
        assert not any(path.endswith(".ring") for path in world.disk.contents())


# --- checkpoints -----------------------------------------------------------------------------------


def calls_of_save() -> range:
    """Return the numbers of the calls of saving the first checkpoint, which makes its directories."""
    world = World()
    play(world)
    system = world.save()
    return range(1, system.changes + 1)


@pytest.mark.parametrize("kind", ["kill", "kill-half", *ERRORS])
@pytest.mark.parametrize("saved", [0, 2])
def test_checkpoint_is_the_old_or_the_new_one(kind: str, saved: int) -> None:
    """Whatever fails at any call of a save, and after a power cut, a checkpoint is whole."""
    for at in calls_of_save():
        for seed in range(2):
            world, choose = World(), random.Random(1000 * at + seed).randrange
            with plan(world, kind, at, "seed", seed):
                play(world)
                for _ in range(saved):
                    world.save()

                world.save(Fault(kind, at))
                before = world.problems()
                world.cut_power(choose)
                after = world.problems()
                world.save()

                assert [before, after, world.problems()] == [[], [], []]
