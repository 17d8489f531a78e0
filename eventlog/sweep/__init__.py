"""Runs a command over a space of params: grid or random, in parallel, resumable.

    space    params and the values that they may take
    config   the file that says what to run, and over which space
    trials   the points of the space, each with the id that its run has wherever it is made
    state    what is done already, as the logs say
    running  processes: so many at once, signals, the end

A trial is an ``evlog run``: the log is the only state of a sweep.
"""
