"""Everything that can go wrong, at every call of a run: open, log, rotate, sync, seal, close, recover."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.simos.faults import Fault
from tests.simos.system import Call, SimSystem
from tests.simos.world import RUN, World, recover_run

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

SCRIPT = [(3, None), (0, False), (4, True), (3, False), (9, True), (5, False), (8, True), (4, None)]
ERRORS = ["EIO", "ENOSPC", "EDQUOT", "ESTALE", "EROFS", "lie", "lie-seen", "hang"]
# A run whose disk fails on the way, so that there are two rings and a segment that was given up.
FAILING = {"whole": None, "rewritten": Fault("lie-seen", 29), "in memory": Fault("EIO", 34, times=3)}


@contextmanager
def plan(world: World, *parts: object) -> Iterator[None]:
    """Tell with a failure what led to it."""
    try:
        yield
    except BaseException as problem:
        problem.add_note(f"plan: {', '.join(map(str, parts))}; trace: {world.trace}")
        raise


def play(world: World, *faults: Fault, is_closed: bool = True) -> None:
    """Play the script: it rotates twice, syncs four times and ends properly, if nothing is in its way."""
    life = world.open(*faults)
    if life is None:
        return
    for log, sync in SCRIPT:
        if not world.do(life, log=log, sync=sync):
            return
        world.disk.advance(3.0)
    if is_closed:
        world.end(life)


def calls_of(*faults: Fault, is_closed: bool = True) -> range:
    """Return the numbers of the calls that change something when the script is played."""
    world = World()
    play(world, *faults, is_closed=is_closed)
    return range(1, next(iter(world.all.values())).system.changes + 1)


def test_script_without_faults_ends_with_everything() -> None:
    """The script itself: all is read, nothing is found wrong, only segments are left."""
    world = World()

    play(world)

    found = world.settle(choose=random.Random(1).randrange)
    (life,) = world.all.values()
    assert found.steps[life.writer] == life.logged
    assert found.findings == []
    assert len(life.logged) == 36
    assert {path.rpartition(".")[2] for path in world.disk.contents()} == {"jsonl"}


@pytest.mark.parametrize("kind", ["kill", "kill-half"])
def test_kill_at_every_call_loses_nothing(kind: str) -> None:
    """Whatever the process was about to ask for, every event whose call had returned is read back."""
    for at in calls_of():
        world = World()
        with plan(world, kind, at):
            play(world, Fault(kind, at))

            world.look()
            world.settle(choose=random.Random(at).randrange)


def test_power_cut_at_every_call_keeps_what_was_synced() -> None:
    """Any subset of what was not synced may be there; what a sync has reached is."""
    for at in calls_of():
        for seed in range(6):
            world, choose = World(), random.Random(1000 * at + seed).randrange
            with plan(world, "power cut", at, "seed", seed):
                play(world, Fault("kill", at))

                world.cut_power(choose)

                world.look()
                world.settle(choose=choose)


@pytest.mark.parametrize("kind", ERRORS)
def test_fault_at_every_call_costs_nothing(kind: str) -> None:
    """Training sees nothing, the log ends properly, everything is in it or counted."""
    for at in calls_of():
        for times in (1, 3):
            world = World()
            with plan(world, kind, at, times):
                play(world, Fault(kind, at, times=times))

                found = world.settle(choose=random.Random(at).randrange)
                assert world.lives == []
                for life in world.all.values():
                    assert found.steps[life.writer] == life.logged
                    world.check_dropped(life, found)


@pytest.mark.parametrize("kind", ["lie", "lie-seen", "ENOSPC"])
def test_kill_while_the_disk_fails_loses_nothing(kind: str) -> None:
    """Also between a failed sync and its rewrite, at every call, a kill costs nothing."""
    syncs = [29, 42, 51]
    for first in syncs:
        for at in range(first + 1, first + 14):
            world = World()
            with plan(world, kind, first, "kill", at):
                play(world, Fault(kind, first), Fault("kill", at))

                world.look()
                world.settle(choose=random.Random(at).randrange)


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

            world.look()
            world.settle(choose=random.Random(at).randrange)


@pytest.mark.parametrize("how", FAILING)
def test_power_cut_at_every_call_of_a_recovery_keeps_what_was_synced(how: str) -> None:
    """What the writer had synced does not depend on how far a recovery came."""
    for at in calls_of_recovery(how):
        for seed in range(4):
            world, choose = leave(how), random.Random(1000 * at + seed).randrange
            with plan(world, how, "power cut", at, "seed", seed):
                world.recover(Fault("kill", at))

                world.cut_power(choose)

                world.look()
                world.settle(choose=choose)


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
                world.look()
                world.cut_power(choose)

                world.look()
                world.save()
                world.look()
