"""A simulated operating system, and what evlog's storage does on it.

`disk` keeps what is cached and what is durable apart, `system` gives a process's view of it with a fault at
any call, `world` plays writers, readers and recoveries on it and holds them to their promises.

    python -m tests.simos --steps 50000 --seed 7   a long walk; a failure names the seed that repeats it
"""
