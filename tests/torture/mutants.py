"""Inputs that nobody wrote: arbitrary bytes, and bytes that are almost what they should be.

Each generator makes its input from a `random.Random` alone, so a number is enough to make it again.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from tests.logs import WRITER_A

_GOLDEN = Path(__file__).parents[1] / "golden" / "format-1" / "run" / "log"

Fields = list[tuple[bytes, bytes]]
"""An object's keys and values as JSON texts: so a key may come twice, and a value be no JSON."""

WEIRD: tuple[bytes, ...] = (
    b"null", b"true", b"-1", b"0", b"1.5", b"-0", b"1e999", b"1e-999", b"18446744073709551616",
    b"9223372036854775807", b"-9223372036854775809", b"9" * 400, b"0." + b"1" * 400, b"NaN", b"Infinity",
    b"01", b"+1", b"[]", b"{}", b'""', b'"NaN"', b'"-Infinity"', b'"\\u0000"', b'"\\ud800"',
    b'"\\udc00\\ud800"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\\x"', b'"\\', b'"', b"[", b"{",
    b'"../../../etc/passwd"', b'"/etc/passwd"', b'"artifacts/../../secret"', b'"~root"', b'"a\\u0000b"',
    b'"\x1b[2J\x1b]0;x\x07"', b'"\\u001b[31m"', b'"' + b"x" * 5000 + b'"', b"[" * 200 + b"]" * 200,
    b'{"a":' * 60 + b"1" + b"}" * 60, b"[[1,2],[3]]", b'{"":""}', b'{"a":1,"a":2}', b'["a",1,null,{}]',
    b'"r0-00000000000000000000000000"', b'"segment_opened"', b'"segment_sealed"', b'"metrics"', b'"00000000"',
    b"\x00", b"\xef\xbb\xbf1", b"1 ", b" 1", b"/*", b"1e5", b"1.0", b'{"path":"../../secret","size_bytes":6,'
    b'"sha256":"0"}', b'{"path":"artifacts","size_bytes":-1,"sha256":""}', b"[" * 3000 + b"]" * 3000,
)  # fmt: skip


@functools.cache
def known_lines() -> tuple[Fields, ...]:
    """Return lines of every type of event, frames included, without their crc."""
    found = []
    for path in sorted(_GOLDEN.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            fields.pop("crc", None)
            found.append([(_text(key), _text(value)) for key, value in fields.items()])
    return tuple(found)


def _text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def joined(fields: Fields) -> bytes:
    """Return the body of a line: the object without its closing brace."""
    return b"{" + b",".join(key + b":" + value for key, value in fields)


def value_mutant(value: bytes, generator: random.Random) -> bytes:
    """Return another value: a weird one, or one with a weird part."""
    if value[:1] in b"{[" and len(value) > 2 and generator.random() < 0.5:
        colon = value.find(b":") + 1 or 1
        end = max(value.rfind(b"}"), value.rfind(b"]"), colon)
        return value[:colon] + generator.choice(WEIRD) + value[end:]
    return generator.choice(WEIRD)


def fields_mutant(fields: Fields, generator: random.Random) -> Fields:
    """Return *fields* with one to three changes: values, keys, what is missing, double or elsewhere."""
    fields = list(fields)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        at, kind = generator.randrange(len(fields)), generator.random()
        key, value = fields[at]
        if kind < 0.6:
            fields[at] = (key, value_mutant(value, generator))
        elif kind < 0.7:
            fields.insert(at, (key, generator.choice(WEIRD)))
        elif kind < 0.8 and len(fields) > 1:
            del fields[at]
        elif kind < 0.9:
            fields[at] = (generator.choice((b'"seq"', b'"type"', b'"crc"', b'""', b'"\xff"', b"1")), value)
        else:
            other = generator.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
    return fields


def bytes_mutant(data: bytes, generator: random.Random) -> bytes:
    """Return *data* with a few bytes changed, taken out, put in, repeated, or set to NUL."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4))):
        at, kind = generator.randrange(len(changed) + 1), generator.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[at : at + generator.randrange(1, 40)] = b""
        elif kind == 2:
            changed[at:at] = generator.randbytes(generator.randrange(1, 20))
        elif kind == 3:
            changed[at:at] = changed[at : at + generator.randrange(1, 300)]
        elif kind == 4:
            size = min(generator.randrange(1, 600), len(changed) - at)
            changed[at : at + size] = bytes(size)
        elif kind == 5:
            changed[at:at] = generator.choice((b"\n", b"\r\n", b"\0", b"\n\n", b"}", b',"crc":"00000000"}\n'))
        else:
            del changed[at:]
    return bytes(changed)


def line(generator: random.Random) -> bytes:
    """Return one line without a newline: arbitrary, or almost one, mostly with a crc that fits."""
    if generator.random() < 0.05:
        return generator.randbytes(generator.randrange(60))
    fields = generator.choice(known_lines())
    kind = generator.random()
    if kind < 0.8:
        fields = fields_mutant(fields, generator)
    body = joined(fields)
    if kind > 0.9:
        body = bytes_mutant(body, generator)
    return closed(body, 0, generator)[0]


def closed(body: bytes, seed: int, generator: random.Random) -> tuple[bytes, int]:
    """Return the line of *body*, nearly always with the crc that fits, and the crc for the next one."""
    kind = generator.random()
    crc = crc32(body, seed)
    if kind < 0.94:
        return b'%b,"crc":"%08x"}' % (body, crc), crc
    if kind < 0.96:
        return body + b"}", crc
    digits = generator.choice((b"%08X" % crc, b"%08x" % (crc ^ 1), b"0000000g", b"%07x" % (crc >> 4)))
    return b'%b,"crc":"%b"}' % (body, digits), crc


def _of_first_segment(fields: Fields) -> Fields:
    """Return the header of any segment as that of the first one of the log that it is put into."""
    first = {b'"writer"': b'"%b"' % WRITER_A.encode(), b'"segment"': b"1", b'"prev"': b"null"}
    return [(key, first.get(key, value)) for key, value in fields]


def _at(fields: Fields, seq: int, ts: int) -> Fields:
    return [(b'"seq"', b"%d" % seq), (b'"ts"', b"%d" % ts), *fields[2:]]


def log(generator: random.Random, *, damage: float = 0.3) -> bytes:
    """Return a segment: a header, events and perhaps a seal, with checksums that fit what stands there.

    Args:
        damage: how often bytes are changed after that.
    """
    if generator.random() < 0.02:
        return generator.randbytes(generator.randrange(2000))
    frames = [fields for fields in known_lines() if b"segment_" in fields[2][1]]
    events = [fields for fields in known_lines() if b"segment_" not in fields[2][1]]
    opened = [fields for fields in frames if b"opened" in fields[2][1]]
    header = generator.choice(opened)
    chosen = [header if generator.random() < 0.03 else _of_first_segment(header)]
    chosen += [generator.choice(events) for _ in range(generator.randrange(1, 7))]
    if generator.random() < 0.05:
        chosen.insert(generator.randrange(len(chosen) + 1), generator.choice(frames))
    if generator.random() < 0.4:
        chosen.append(generator.choice([fields for fields in frames if b"sealed" in fields[2][1]]))
    lines, crc, seq, ts = [], 0, 0, 1_763_700_000_000_000
    for number, fields in enumerate(chosen):
        body = joined(_changed(_at(fields, seq, ts), generator))
        if generator.random() < 0.02:
            body = bytes_mutant(body, generator)
        made, crc = closed(body, crc, generator)
        lines.append(made)
        seq += number > 0
        ts += 1000
        if generator.random() < 0.03:
            seq += generator.choice((-2, 1, 5, 1 << 40, 1 << 62, 1 << 70))
    data = b"\n".join(lines) + (b"\n" if generator.random() < 0.9 else b"")
    return bytes_mutant(data, generator) if generator.random() < damage else data


def _changed(fields: Fields, generator: random.Random) -> Fields:
    return fields_mutant(fields, generator) if generator.random() < 0.25 else fields


def text_mutant(samples: Sequence[bytes], generator: random.Random) -> bytes:
    """Return pieces of *samples*, joined anew and changed."""
    parts = []
    for _ in range(generator.randrange(1, 6)):
        sample = generator.choice(samples)
        begin = generator.randrange(len(sample) + 1)
        parts.append(sample[begin : begin + generator.randrange(1, 200)])
    if generator.random() < 0.3:
        parts.insert(generator.randrange(len(parts)), generator.choice(WEIRD))
    data = generator.choice((b"", b"\n", b" ")).join(parts)
    return bytes_mutant(data, generator) if generator.random() < 0.6 else data
