"""Moves the events of one run into one sink, once each, and remembers how far it came.

ledger     what is known of one run at one destination: cursors, state, plan, errors; saved atomically
lease      one process at a time delivers one run to one destination
shaping    what is left out or changed on the way
breaker    when to try a destination again that cannot be reached
letters    events that a destination refused for good
pump       one run, one sink: read, shape, write, save
proof      what the destination holds, compared with the log
"""
