"""SQL over all runs. `database` is the way in; `ingest` brings verified lines into DuckDB."""

from eventlog.query.database import Database, Result

__all__ = ["Database", "Result"]
