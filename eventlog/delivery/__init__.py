"""Moves the events of one run into one sink, once each, and remembers how far it came.

ledger     what is known of one run at one destination: cursors, state, plan, errors; saved atomically
lease      one process at a time delivers one run to one destination
shaping    which metrics go to a destination, how many points of them, under which names
hiding     what is hidden in texts on the way
counting   the points of a run, before some of them go
breaker    when to try a destination again that cannot be reached
letters    events that a destination refused for good
pump       one run, one sink: read, shape, write, save
proof      what the destination holds, compared with the log
"""
