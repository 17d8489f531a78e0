"""Old shapes brought up to date."""

from __future__ import annotations

from eventlog.events import FORMAT
from eventlog.upcast import STEPS, Step, upcast


def note_step(name: str) -> Step:
    """Return a step that adds *name* to what it was given."""
    return lambda fields: {**fields, "steps": f"{fields['steps']} {name}"}


def test_upcast_applies_each_step_in_order() -> None:
    """From format 1 to 3 are two steps, each seeing what the one before returned."""
    steps = {1: note_step("1-2"), 2: note_step("2-3")}

    assert upcast({"steps": ""}, 1, to_format=3, steps=steps) == {"steps": " 1-2 2-3"}
    assert upcast({"steps": ""}, 2, to_format=3, steps=steps) == {"steps": " 2-3"}
    assert upcast({"steps": ""}, 3, to_format=3, steps=steps) == {"steps": ""}


def test_every_released_format_has_a_step() -> None:
    """Nothing older than today's format is ever without a way to it."""
    assert set(STEPS) == set(range(1, FORMAT))
