"""What authors of sinks need for their tests: real runs, fakes, and the rules that every sink keeps.

    from eventlog.testing import SinkContract

    class TestMySink(SinkContract):
        @pytest.fixture(autouse=True)
        def destination(self, tmp_path):
            self.directory = tmp_path / "out"

        def make_sink(self):
            return MySink(to=self.directory)

`contract` has the rules, `driver` does by hand what the pump does, `runs` writes logs, `fakes` are sinks
without a destination. Works without pytest as far as its fixtures are not needed.
"""

from eventlog.testing.contract import SinkContract
from eventlog.testing.driver import Courier, Killed, describe_difference, entries_of
from eventlog.testing.fakes import FaultySink, MemorySink, MemoryStore
from eventlog.testing.runs import RunWriter, every_event, make_run, odd_events

__all__ = [
    "Courier",
    "FaultySink",
    "Killed",
    "MemorySink",
    "MemoryStore",
    "RunWriter",
    "SinkContract",
    "describe_difference",
    "entries_of",
    "every_event",
    "make_run",
    "odd_events",
]
