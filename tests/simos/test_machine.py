"""Writers, readers, recoveries, power cuts and faults in any order."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.simos.walk import ACTIONS, Walk, walk

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")


class StorageMachine(RuleBasedStateMachine):
    """One machine with one run; hypothesis chooses what happens, and shrinks it when a promise breaks."""

    @initialize(chance=st.randoms(use_true_random=False))
    def begin(self, chance: random.Random) -> None:
        self.walk = Walk(chance)

    @rule(action=st.sampled_from(sorted(ACTIONS)))
    def act(self, action: str) -> None:
        getattr(self.walk, action)()

    def teardown(self) -> None:
        self.walk.world.settle(choose=random.Random(len(self.walk.world.trace)).randrange)


TestStorage = StorageMachine.TestCase
TestStorage.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seed", [1, 1001])
def test_walk_breaks_no_promise(seed: int) -> None:
    """Some thousand steps of a seeded walk; `python -m tests.simos` goes farther."""
    assert walk(900, seed) > 900
