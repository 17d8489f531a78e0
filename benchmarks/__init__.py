"""Measures evlog beside its peers. `README.md` says how to read the figures.

`__main__` runs the rounds, `worker` is one measurement in a process of its own, `peers` makes all trackers
look alike, `calls`, `loop`, `startup` and `replay` measure one thing each, `report` prints.
"""
