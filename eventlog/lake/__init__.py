"""A lake: the tables of all runs as open Parquet that any engine reads, kept up to date from many machines.

    <URL>/metrics/project=demo/part-01KB….parquet    rows, sorted by run
                  _delta_log/…                        which files count, and how far each writer is in them
          events/… runs/… params/… …                  a Delta table for each table of `eventlog.tables`
          _evlog/publishing/01KB….json                who publishes now

Tables of events only grow: a commit that adds rows of a writer says, as a transaction of the
application ``evlog/<project>/<run_id>/<writer>``, which seq comes next. Of two commits that begin at the same
seq one fails, so each row is there once, whoever publishes and whenever somebody is killed. Tables about runs
are replaced run by run, with ``evlog/<project>/<run_id>`` and how much was known.

What a crash leaves is files that no commit names. Their names say who wrote them; once that one is gone, the
next `publish` removes them.
"""
