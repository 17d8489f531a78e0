"""Finds out where a run comes from: `child` is a process that asks, and `capture` logs what it says."""
