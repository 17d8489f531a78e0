"""Everything that can go wrong, at every call of a run: open, log, rotate, sync, seal, close, recover."""

from __future__ import annotations

import random

import pytest

from tests.simos.faults import Fault
from tests.simos.world import World

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")


SCRIPT = [(3, None), (0, False), (4, True), (3, False), (9, True), (5, False), (8, True), (4, None)]


def play(world: World, *faults: Fault) -> None:
    """Play the script: it rotates twice, syncs four times and ends properly, if nothing is in its way."""
    life = world.open(*faults)
    if life is None:
        return
    for log, sync in [
        (3, None),
        (0, False),
        (4, True),
        (3, False),
        (9, True),
        (5, False),
        (8, True),
        (4, None),
    ]:
        if not world.do(life, log=log, sync=sync):
            return
        world.disk.advance(3.0)
    world.save()
    world.end(life)


def calls_of_script() -> int:
    """Return how many calls the script makes that change something."""
    world = World()
    play(world)
    return next(iter(world.all.values())).system._changes


CALLS = range(1, calls_of_script() + 1)


def test_script_without_faults_ends_with_everything() -> None:
    """The script itself: all is read, nothing is found wrong, only segments are left."""
    world = World()

    play(world)

    found = world.settle(choose=random.Random(1).randrange)
    (life,) = world.all.values()
    assert found.steps[life.writer] == life.logged
    assert found.findings == []
    assert len(life.logged) == 36


@pytest.mark.parametrize("kind", ["kill", "kill-half"])
@pytest.mark.parametrize("at", CALLS)
def test_kill_at_every_call_loses_nothing(kind: str, at: int) -> None:
    """Whatever the process was about to ask for, every event whose call had returned is read back."""
    world = World()

    play(world, Fault(kind, at))

    world.look()
    world.settle(choose=random.Random(at).randrange)


@pytest.mark.parametrize("at", CALLS)
def test_power_cut_at_every_call_keeps_what_was_synced(at: int) -> None:
    """Any subset of what was not synced may be there; what a sync has reached is."""
    for seed in range(8):
        world, choose = World(), random.Random(1000 * at + seed).randrange
        play(world, Fault("kill", at))

        world.cut_power(choose)

        world.look()
        world.settle(choose=choose)


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "EDQUOT", "ESTALE", "lie", "lie-seen", "hang"])
@pytest.mark.parametrize("at", CALLS)
def test_fault_at_every_call_costs_nothing(kind: str, at: int) -> None:
    """Training sees nothing, the log ends properly, everything is in it or counted."""
    world = World()

    play(world, Fault(kind, at, times=2 if at % 3 == 0 else 1))

    found = world.settle(choose=random.Random(at).randrange)
    for life in world.all.values():
        assert world.lives == []
        assert found.steps[life.writer] == life.logged
        world.check_dropped(life, found)
