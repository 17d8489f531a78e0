"""A stand-in for W&B's service on 127.0.0.1: the HTTP API that the real SDK and the sink talk to.

    with StandIn() as service:
        service.faults.add("file_stream", status(429, retry_after_s=1))
        … WANDB_BASE_URL=service.url, WANDB_API_KEY=KEY …
        assert service.run("demo", "run-1").rows() == […]

It keeps what it was sent, can misbehave on demand, and knows both ways in which the real service may treat
lines that are sent again: *overwrite* (a line has the place that its offset says) and *append* (a line goes
to the end, whatever its offset says). It has the operations that wandb 0.31 uses, no more.
"""

from tests.standin.faults import Fault, Faults, cut, hang, lose_answer, stale, status, torn
from tests.standin.server import KEY, StandIn
from tests.standin.service import Request, RunState

__all__ = [
    "KEY",
    "Fault",
    "Faults",
    "Request",
    "RunState",
    "StandIn",
    "cut",
    "hang",
    "lose_answer",
    "stale",
    "status",
    "torn",
]
