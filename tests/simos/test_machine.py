"""Writers, readers, recoveries, power cuts and faults in any order."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.simos.faults import Fault
from tests.simos.walk import KINDS, walk
from tests.simos.world import World

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

FAULTS = st.builds(Fault, st.sampled_from(KINDS), st.integers(1, 25), st.sampled_from([1, 2, 5]))
SOME_FAULTS = st.lists(FAULTS, max_size=2)
SEEDS = st.integers(0, 1 << 32)


class StorageMachine(RuleBasedStateMachine):
    """One machine with one run; hypothesis chooses what happens, and shrinks it when a promise breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @precondition(lambda self: len(self.world.lives) < 3)
    @rule(faults=SOME_FAULTS)
    def open(self, faults: list[Fault]) -> None:
        self.world.open(*faults)

    @precondition(lambda self: self.world.lives)
    @rule(which=SEEDS, log=st.integers(0, 12), sync=st.sampled_from([None, False, True]))
    def log(self, which: int, log: int, sync: bool | None) -> None:
        self.world.do(self.world.lives[which % len(self.world.lives)], log=log, sync=sync)

    @precondition(lambda self: self.world.lives)
    @rule(which=SEEDS, fault=FAULTS)
    def arm(self, which: int, fault: Fault) -> None:
        life = self.world.lives[which % len(self.world.lives)]
        life.injector.add(fault._replace(at=fault.at + life.system.changes))

    @precondition(lambda self: self.world.lives)
    @rule(which=SEEDS)
    def end(self, which: int) -> None:
        life = self.world.lives[which % len(self.world.lives)]
        if not self.world.end(life) and life in self.world.lives:
            self.world.kill(life)

    @precondition(lambda self: self.world.lives)
    @rule(which=SEEDS)
    def kill(self, which: int) -> None:
        self.world.kill(self.world.lives[which % len(self.world.lives)])

    @rule(seed=SEEDS)
    def cut_power(self, seed: int) -> None:
        self.world.cut_power(random.Random(seed).randrange)
        self.world.look()

    @rule(faults=SOME_FAULTS)
    def recover(self, faults: list[Fault]) -> None:
        self.world.recover(*faults)

    @rule()
    def recover_elsewhere(self) -> None:
        self.world.recover_elsewhere()

    @rule(faults=SOME_FAULTS)
    def save(self, faults: list[Fault]) -> None:
        self.world.save(*faults)

    @rule(seconds=st.sampled_from([0.5, 6.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.world.disk.advance(seconds)

    @rule()
    def look(self) -> None:
        self.world.look()

    def teardown(self) -> None:
        self.world.settle(choose=random.Random(len(self.world.trace)).randrange)


TestStorage = StorageMachine.TestCase
TestStorage.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seed", [1, 1001])
def test_walk_breaks_no_promise(seed: int) -> None:
    """Some thousand steps of a seeded walk; `python -m tests.simos` goes farther."""
    assert walk(900, seed) > 900
