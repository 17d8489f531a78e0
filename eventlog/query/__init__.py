"""SQL over all runs. `database` asks in this process, `sandbox` for strangers, `connect` from notebooks."""

from eventlog.query.database import Database, Result

__all__ = ["Database", "Result"]
