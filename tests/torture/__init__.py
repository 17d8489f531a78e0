"""The fault campaign: ten rows, each with a count and a result.

    python -m tests.torture                  all rows, long form, into docs/explanation/torture.json
    python -m tests.torture --row 1 --short  one row, as `make test` plays it

Each row is a module of this package with `TITLE`, `PROMISE` and `play(form, seed)`. What a row found is
written into the machine-readable file, from which the table of docs/explanation/durability.md is made.
"""
