"""Which devices a run held, and for how long: what it costs follows from that.

A host with GPUs counts as its GPUs, one without as `HOST`. What counts is the time from the first to the
last event of each process that has said what hardware it sees; where several saw the same device at the same
time, it counts once. So a run that was resumed after a week does not pay for the week.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eventlog.events import AnyEvent, Context

HOST = "host"
"""The name of a machine without a GPU among the devices."""
SEVERAL_TASKS = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE")
"""Variables that say how many processes of a job share a host."""

Span = tuple[int, int]
"""First and last time, in microseconds."""
Facts = dict[str, Mapping[str, object]]


def visible_devices(variables: Mapping[str, object], count: int) -> list[int]:
    """Return the numbers of the GPUs, of *count* on a host, that a job with these variables may use.

    Where several tasks share the host, each may be given its own: then all count.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables": what follows a wrong number is ignored.
    Devices that are named by their id are counted from 0, for no id is known here.
    """
    named = variables.get("CUDA_VISIBLE_DEVICES")
    # Slurm writes 4(x2) for four tasks on each of two hosts.
    is_shared = any(str(variables.get(name) or "1").partition("(")[0] != "1" for name in SEVERAL_TASKS)
    if not isinstance(named, str) or is_shared:
        return list(range(count))
    found: list[int] = []
    for word in filter(None, (word.strip() for word in named.split(","))):
        is_number = word.removeprefix("-").isdecimal()
        number = int(word) if is_number else len(found)
        if not 0 <= number < count:
            break
        if number not in found:
            found.append(number)
    return found


def device_hours(events: Iterable[tuple[str, int, AnyEvent]], spans: Mapping[str, Span]) -> dict[str, float]:
    """Return the hours of each kind of device, by its name; nothing if no process said what it saw.

    Args:
        events: of a run, in the order of replay, each with its writer and rank; of the context of a run
            that goes on, only what has changed is logged anew.
        spans: time of each writer's first and last event.
    """
    gpus: dict[tuple[str, int], list[Span]] = {}
    hosts: dict[str, list[Span]] = {}
    names: dict[tuple[str, int], str] = {}
    for writer, facts in _facts(events).items():
        if writer not in spans or "hardware" not in facts:
            continue
        host = str(facts["hardware"].get("host"))
        hosts.setdefault(host, []).append(spans[writer])
        for number, name in _gpus(facts):
            names[host, number] = name
            gpus.setdefault((host, number), []).append(spans[writer])
    hours: dict[str, float] = {}
    with_gpus = {host for host, _ in gpus}
    for device, held in gpus.items():
        hours[names[device]] = hours.get(names[device], 0.0) + _hours(held)
    for host in hosts.keys() - with_gpus:
        hours[HOST] = hours.get(HOST, 0.0) + _hours(hosts[host])
    return dict(sorted(hours.items()))


def _facts(events: Iterable[tuple[str, int, AnyEvent]]) -> dict[str, Facts]:
    """Return what each writer said of its hardware and variables, or the one of its rank before it."""
    of_writer: dict[str, Facts] = {}
    of_rank: dict[int, Facts] = {}
    for writer, rank, event in events:
        facts = of_writer.setdefault(writer, dict(of_rank.get(rank, {})))
        if not isinstance(event, Context):
            continue
        # Of hosts but the first the kind is hardware/<host>.
        kind = event.kind.partition("/")[0]
        found = event.data if kind == "hardware" else event.data.get("variables")
        if kind in ("hardware", "environment") and isinstance(found, Mapping):
            facts[kind] = {**facts.get(kind, {}), **found}
            of_rank[rank] = dict(facts)
    return of_writer


def _gpus(facts: Facts) -> list[tuple[int, str]]:
    """Return number and name of each GPU that a process could use."""
    listed = facts["hardware"].get("gpus")
    gpus = [gpu for gpu in listed if isinstance(gpu, Mapping)] if isinstance(listed, Sequence) else []
    numbers = visible_devices(facts.get("environment", {}), len(gpus))
    return [(number, str(gpus[number].get("name") or "GPU")) for number in numbers]


def _hours(spans: list[Span]) -> float:
    """Return the hours that are in at least one of *spans*."""
    total, until = 0, min(start for start, _ in spans)
    for start, end in sorted(spans):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total / 3.6e9
