"""What is fed with fuzzed bytes beside the log: configuration files, and what importers read."""

from __future__ import annotations

import os
import random
import sqlite3
from functools import cache
from pathlib import Path

import msgspec

from eventlog.configuration import ConfigurationError, read_table
from eventlog.importers.sqlite import SourceDatabaseError, import_database
from eventlog.importers.text import read_text
from eventlog.importers.text.decoding import decode
from eventlog.lineage.audit_lines import AuditRules
from eventlog.lineage.load.table import SystemTable
from eventlog.query.prices import Prices
from eventlog.sweep.config import SweepError, read_config
from tests.torture import mutants
from tests.torture.targets import Target, scratch

_LOGS = Path(__file__).parents[1] / "importers" / "logs"
_TABLES: dict[str, type[msgspec.Struct]] = {"prices": Prices, "audit": AuditRules, "system": SystemTable}

# --- configuration --------------------------------------------------------------------------

_TOML: tuple[bytes, ...] = (
    b'[prices]\ncurrency = "EUR"\nhost = 0.40\n[prices.devices]\n"NVIDIA A100*" = 2.10\n"*" = 0.90\n',
    b'[audit]\nrequire = ["tags.owner"]\nmin_seeds = 3\n[audit.severity]\n"code.dirty" = "fail"\n',
    b"[system]\nevery_s = 15\ngpus = true\n",
    b"a.b.c = 1979-05-27T07:32:00Z\n[[x]]\ny = {z = 0x1f, w = [1, 2.5, 'q']}\n",
)
_SWEEP: tuple[bytes, ...] = (
    b'name = "s"\ncommand = "python train.py --lr {lr}"\nmethod = "random"\ncount = 5\nseed = 1\n'
    b'[params.lr]\nmin = 1e-4\nmax = 1e-1\nscale = "log"\n',
    b'command = ["python", "t.py"]\nmethod = "grid"\njobs = 2\ndevices = [0, 1]\n[params]\nwidth = [1, 2]\n',
    b"name: s\ncommand: python t.py {a}\nparams:\n  a: [1, 2]\n  b: {min: 0, max: 9}\n",
    b'{"command": "x {a}", "params": {"a": {"values": [1]}}}',
)


def make_configuration(generator: random.Random) -> bytes:
    """Return a file ``evlog.toml``: whole, cut, mixed, or with weird values."""
    if generator.random() < 0.5:
        return _with_weird_value(generator.choice(_TOML), generator)
    return mutants.text_mutant(_TOML, generator)


def _with_weird_value(data: bytes, generator: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = generator.randrange(len(lines))
    key, equals, _ = lines[at].partition(b"=")
    lines[at] = key + (equals or b"=") + generator.choice(mutants.WEIRD)
    return b"\n".join(lines)


def take_configuration(data: bytes) -> str:
    """Read every table that a room knows."""
    path = scratch() / "evlog.toml"
    path.write_bytes(data)
    os.environ["EVLOG_CONFIG"] = str(path)
    found = []
    for name, shape in _TABLES.items():
        try:
            table = read_table(name, shape)
        except ConfigurationError as error:
            found.append(str(error.reason)[:25])
        else:
            found.append(str(table == shape()))
    return " ".join(found)


def make_sweep(generator: random.Random) -> bytes:
    """Return the description of a sweep, in one of three languages."""
    data = generator.choice(_SWEEP)
    changed = _with_weird_value(data, generator) if generator.random() < 0.4 else None
    return changed or mutants.text_mutant((data,), generator)


def take_sweep(data: bytes) -> str:
    """Read a sweep in the language that it may be in."""
    path = scratch() / ("sweep.json" if data[:1] == b"{" else "sweep.yaml" if b": " in data else "sweep.toml")
    path.write_bytes(data)
    try:
        config = read_config(path)
    except SweepError as error:
        return str(error)[-25:]
    return f"{config.method} {len(config.space)}"


# --- text -----------------------------------------------------------------------------------


@cache
def _texts() -> tuple[bytes, ...]:
    return (
        *(path.read_bytes() for path in sorted(_LOGS.iterdir())),
        b"Epoch 3/10 | train loss: 0.31 | val acc = 97.3% | lr=1e-3 | 12.5s/it\n",
        b"[10]\ttrain-auc:0.91+0.01\teval-auc:0.85\n",
        b"Namespace(lr=0.1, layers=[1, 2], name='x')\n$ python train.py --lr 0.1 --no-amp -b 32\n",
        b"| step | loss | acc |\n|------|------|-----|\n| 1 | 0.5 | 10 % |\n| 2 | 0.4 | 20 % |\n",
        b'{"epoch": 1, "loss": NaN, "nested": {"a": [1, 2, {"b": null}]}}\n',
        b"2024-01-02 03:04:05,678 - INFO - saved checkpoint to runs/../x/model_3.pt (12.5 MB)\n",
        b"[CV 1/5] END C=1, kernel=rbf;, score=(train=0.9, test=0.8) total time= 1.2s\n",
        b"seed ............ 1234\n\x1b[32mloss\x1b[0m: 0.5\r50%|#####     | 5/10 [00:01<00:01, 4.2it/s]\n",
        b"=" * 300 + b"\n" + b"a=" * 300 + b"\n" + b"1.2.3.4:" * 60 + b"\n" + b"(((((" * 60 + b"\n",
        b"- - - " * 80 + b"\n" + b"word " * 200 + b"1\n" + b"a/" * 200 + b".pt saved\n",
    )


def make_text(generator: random.Random) -> bytes:
    """Return something that looks like what training programs print."""
    return mutants.text_mutant(_texts(), generator)


def take_text(data: bytes) -> str:
    """Understand it."""
    found = read_text(decode(data))
    return f"{bool(found.params)} {len(found.keys) > 0} {min(len(found.left_out), 3)} {len(found.grids) > 0}"


# --- databases ------------------------------------------------------------------------------

_SCHEMA = (
    "CREATE TABLE experiments (experiment_id TEXT, project TEXT, config TEXT, tags TEXT, status TEXT, "
    "created_at, updated_at);"
    "CREATE TABLE training_metrics (experiment_id TEXT, step, metric_name, metric_value, timestamp);"
    "CREATE TABLE evaluation_results (experiment_id, benchmark, metrics, per_sample_results, timestamp);"
    "CREATE TABLE checkpoints (experiment_id, step, checkpoint_path, size_mb, metrics, timestamp);"
)
_ROWS: dict[str, tuple[object, ...]] = {
    "experiments": ("e1", "p", '{"lr": 0.1}', '["a"]', "completed", "2025-01-02T03:04:05", 1737642622),
    "training_metrics": ("e1", 1, "loss", 0.5, "2025-01-02T03:04:06"),
    "evaluation_results": ("e1", "mmlu", '{"acc": 0.5}', '[{"id": 1, "correct": true}]', 1737642622.5),
    "checkpoints": ("e1", 1, "a/b.pt", 1.5, "{}", "2025-01-02"),
}
_CELLS: tuple[object, ...] = (
    None, -1, 0, 1 << 62, 1e308, -1e308, float("inf"), float("-inf"), 1e18, "", "NaN", "\0", "../../x", "/",
    ".", "..", "9999-12-31T23:59:59.999999", "0001-01-01", "1969-12-31", "2025-13-45", "x" * 3000, b"\xff\0",
    "[" * 3000, '{"a":' * 500, '{"a": NaN, "b": 1e999}', '[[1], {"id": [1]}]', "\x1b[2J", b"", "1e99999",
    "\ud7ff\U0010ffff", "9" * 400, "true", "{}", "[]", '"x"', "-9223372036854775808", "12:00",
    "2025-01-02T03:04:05+99:99",
)  # fmt: skip


def make_database(generator: random.Random) -> bytes:
    """Return a SQLite database with weird cells, or with changed bytes."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(_SCHEMA)
    for table, row in _ROWS.items():
        for _ in range(generator.randrange(1, 4)):
            cells = [generator.choice(_CELLS) if generator.random() < 0.25 else cell for cell in row]
            connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(cells))})", cells)
    connection.commit()
    data = connection.serialize()
    connection.close()
    kind = generator.random()
    if kind < 0.3:
        return mutants.bytes_mutant(data, generator)
    if kind < 0.5:
        changed = bytearray(data)
        for _ in range(generator.randrange(1, 30)):
            changed[generator.randrange(100 if kind < 0.4 else len(changed))] = generator.randrange(256)
        return bytes(changed)
    return data


def take_database(data: bytes) -> str:
    """Say what would be imported; nothing is written, and nothing lies outside of the root."""
    path, root = scratch() / "source.db", scratch() / "root"
    path.write_bytes(data)
    try:
        told = import_database(path, root, dry_run=True)
    except SourceDatabaseError as error:
        return error.reason[:30]
    for one in told.experiments:
        place = os.path.normpath(root / one.project / one.run_id)
        if Path(place).parent.parent != root:
            raise AssertionError(f"{place} is no place for a run")
    return f"{len(told.experiments)} {sorted(told.left_out)[:2]}"


BESIDE = (
    Target("configuration", make_configuration, take_configuration, 30_000),
    Target("sweep", make_sweep, take_sweep, 10_000),
    Target("text", make_text, take_text, 28_000),
    Target("database", make_database, take_database, 2_000),
)
