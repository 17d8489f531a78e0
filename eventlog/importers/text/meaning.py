"""Decides what was seen: params, metrics, final values.

A number beside a step, or one whose name comes again, is a metric; one that stands alone before the training
begins is a param, and one that stands alone after it is a final value. Points of a log without steps are
numbered.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from eventlog.importers.text.observed import Grid, LeftOut, SavedFile, Seen, Value
from eventlog.importers.text.reading import Reader

_WORDS_OF_PARAMS = (
    "lr learning_rate batch_size seed random_seed epochs num_epochs max_epochs n_epochs "
    "num_steps max_steps optimizer model model_type model_name weight_decay momentum dropout "
    "warmup_steps num_layers hidden_size hidden_dim dataset data device num_workers "
    "gradient_accumulation_steps split max_depth n_estimators"
)
_PARAMS = frozenset(_WORDS_OF_PARAMS.split())
_RESULT = re.compile(
    r"(?:best|test|final|total)(?![a-z]*_?(?:size|steps|epochs)).*|.*_(?:score|accuracy|loss|auc|f1)"
)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A metric's value. *t_us*: microseconds since the epoch, None if the log has no times."""

    key: str
    value: int | float
    step: int | None
    t_us: int | None
    line: int


class Understanding(msgspec.Struct, frozen=True, kw_only=True):
    """What a text log says.

    Attributes:
        params, final: name to value; of a name that comes again the last one counts.
        left_out: lines that were not understood.
        lines: number of lines in all.
    """

    params: dict[str, Value]
    points: list[Point]
    final: dict[str, Value]
    grids: list[Grid]
    files: list[SavedFile]
    left_out: list[LeftOut]
    lines: int
    first_us: int | None
    last_us: int | None

    @property
    def keys(self) -> dict[str, int]:
        """Return the metrics with their numbers of points."""
        return dict(Counter(point.key for point in self.points))

    def to_dict(self) -> dict[str, object]:
        """Return everything in terms that JSON has."""
        found = msgspec.to_builtins(self)
        assert isinstance(found, dict)
        return found


def understand(reader: Reader) -> Understanding:
    """Return what the lines that *reader* took mean."""
    seen = reader.seen
    times = Counter(one.key for one in seen)
    begin = min((one.line for one in seen if one.is_marked), default=None)
    params: dict[str, Value] = {}
    final: dict[str, Value] = {}
    points: list[Point] = []
    numbered: Counter[str] = Counter()
    for one in seen:
        match _kind(one, times[one.key], begin):
            case "param":
                params[one.key] = one.value
            case "final":
                final[one.key] = one.value
            case _:
                assert isinstance(one.value, (int, float))
                step = one.step if one.step is not None else numbered[one.key]
                numbered[one.key] += 1
                points.append(Point(key=one.key, value=one.value, step=step, t_us=one.t_us, line=one.line))
    stamps = [one.t_us for one in seen if one.t_us is not None]
    return Understanding(
        params=params,
        points=points,
        final=final,
        grids=reader.grids,
        files=reader.files,
        left_out=reader.left_out,
        lines=reader.lines,
        first_us=min(stamps, default=None),
        last_us=max(stamps, default=None),
    )


def _kind(one: Seen, times: int, begin: int | None) -> str:
    is_number = isinstance(one.value, (int, float)) and not isinstance(one.value, bool)
    if one.wanted == "param":
        return "param"
    if is_number and one.wanted == "metric":
        return "metric"
    if one.key in _PARAMS and times == 1 and not one.is_marked:
        return "param"
    if is_number and (one.is_marked or times > 1):
        return "metric"
    if is_number and _RESULT.fullmatch(one.key):
        return "final"
    return "param" if begin is None or one.line < begin else "final"


def read_text(text: str, reader: Reader | None = None) -> Understanding:
    """Return what the log *text* says."""
    reader = reader or Reader()
    reader.read(text)
    return understand(reader)
