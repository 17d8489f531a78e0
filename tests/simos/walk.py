"""A long walk: writers that come, log, fail, die and are recovered, in an order that a seed chooses."""

from __future__ import annotations

import random

import msgspec

from tests.simos.faults import Fault
from tests.simos.life import OPTIONS, Life
from tests.simos.world import World

KINDS = ["EIO", "ENOSPC", "EDQUOT", "ESTALE", "EROFS", "lie", "lie-seen", "hang", "kill", "kill-half"]
STEPS_OF_A_WORLD = 60
ACTIONS = {"open": 8, "log": 30, "arm": 6, "end": 6, "kill": 6, "cut_power": 3, "recover": 8}
ACTIONS |= {"recover_elsewhere": 2, "save": 5, "look": 4, "wait": 4, "settle": 2}
"""What a walk may do, and how often."""


class Walk:
    """One world and what happens in it. The same chance walks the same way."""

    def __init__(self, chance: random.Random) -> None:
        self._random = chance
        options = msgspec.structs.replace(
            OPTIONS,
            segment_bytes=self._random.choice([1000, 1500, 4000]),
            ring=self._random.choice(["auto", "auto", "auto", "memory"]),
        )
        self.world = World(options=options, crowd=self._random.choice([0, 3, 60]))

    def step(self) -> None:
        """Do something."""
        (action,) = self._random.choices(list(ACTIONS), list(ACTIONS.values()))
        getattr(self, action)()

    def _faults(self, calls: int, share: float, *, after: int = 0) -> list[Fault]:
        if self._random.random() > share:
            return []
        at = after + 1 + self._random.randrange(calls)
        return [Fault(self._random.choice(KINDS), at, self._random.choice([1, 1, 2, 5]))]

    def _life(self) -> Life | None:
        return self._random.choice(self.world.lives) if self.world.lives else None

    def open(self) -> None:
        """Let a writer begin, now and then on a bad disk."""
        if len(self.world.lives) < 3:
            self.world.open(*self._faults(20, 0.3))

    def log(self) -> None:
        """Log, and let the flusher do none, some or all of its work."""
        if life := self._life():
            sync = self._random.choice([None, False, True, True])
            self.world.do(life, log=self._random.choice([0, 1, 3, 9, 30]), sync=sync)

    def arm(self) -> None:
        """Let one of the next calls of a writer go wrong."""
        if life := self._life():
            for fault in self._faults(8, 1.0, after=life.system.changes):
                life.injector.add(fault)
                self.world.trace.append(f"{life.writer[-4:]} arm {fault}")

    def end(self) -> None:
        """Let a writer end; one that cannot is killed."""
        if (life := self._life()) and not self.world.end(life) and life in self.world.lives:
            self.world.kill(life)

    def kill(self) -> None:
        """Kill a writer."""
        if life := self._life():
            self.world.kill(life)

    def cut_power(self) -> None:
        """Cut the power and look."""
        self.world.cut_power(self._random.randrange)
        self.world.look()

    def recover(self) -> None:
        """Recover, now and then on a bad disk or until killed."""
        self.world.recover(*self._faults(14, 0.5))

    def recover_elsewhere(self) -> None:
        """Let another host try to recover what it sees over the network."""
        self.world.recover_elsewhere()

    def save(self) -> None:
        """Save a checkpoint, which may fail."""
        self.world.save(*self._faults(8, 0.4))

    def look(self) -> None:
        """Read everything."""
        self.world.look()

    def wait(self) -> None:
        """Let time pass."""
        self.world.disk.advance(self._random.choice([0.5, 6.0, 700.0]))

    def settle(self) -> None:
        """Recover for good and look."""
        self.world.settle()


def walk(steps: int, seed: int) -> int:
    """Walk *steps* steps through many worlds; return how many calls of the system there were.

    Raises:
        AssertionError: a promise was broken; the note says which seed shows it again.
    """
    calls = 0
    for number in range((steps + STEPS_OF_A_WORLD - 1) // STEPS_OF_A_WORLD):
        one = Walk(random.Random(seed + number))
        try:
            for _ in range(STEPS_OF_A_WORLD):
                one.step()
            one.world.settle(choose=random.Random(seed + number).randrange)
        except BaseException as problem:
            command = f"python -m tests.simos --steps {STEPS_OF_A_WORLD} --seed {seed + number}"
            problem.add_note(f"{command}; trace: {one.world.trace}")
            raise
        calls += one.world.calls
    return calls
