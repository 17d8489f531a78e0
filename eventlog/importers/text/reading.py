"""Reads a text log line by line: what a line says, in the order of what is surest.

User's patterns first, then the forms of well-known tools, objects, command lines, tables, saved files, and
last ``key=value`` beside the markers of step and epoch. What none of them takes is left out, and shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from eventlog.importers.text import dialects, fragments, tables
from eventlog.importers.text.lines import Marker, marker_of, stamp_of
from eventlog.importers.text.observed import Grid, LeftOut, SavedFile, Seen, Value
from eventlog.importers.text.values import (
    Pair,
    bare_pairs,
    name_of,
    number_of,
    pairs,
    split_of,
    value_of,
    whole_cells,
)

MAX_LINE = 1 << 16

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NOTHING = re.compile(r"[\W_]*")
_SAVED = re.compile(
    r"\b(?:saved|saving|wrote|written|writing|dumped|exported|checkpoint(?:ed)?)\b(.{1,400})", re.IGNORECASE
)
_PATH = re.compile(r"(?P<path>[~\w./-]{0,300}\w\.(?P<suffix>[A-Za-z]\w{0,11}))")
_DIRECTORY = re.compile(
    r"\b(?:to|in|at|as) (?P<path>[~\w./-]{0,300}/[\w./-]{0,300}\w)(?P<suffix>)(?=[\s.,;]|$)"
)
_WEIGHTS = frozenset({"pt", "pth", "ckpt", "safetensors", "h5", "keras", "npz", "bin", "pkl", "msgpack"})
_OF_ALL = re.compile(r"\d{1,15}/\d+")
_PLACES = frozenset({"step", "global_step", "iteration", "iter", "epoch"})


class Reader:
    """Takes the lines of one log.

    Args:
        patterns: regular expressions of the user with named groups: ``key`` and ``value``, ``step``,
            ``epoch``, ``time``; any other group is a metric of its name.
        param_patterns: the same, for params.

    Attributes:
        seen, grids, files, left_out: what was found, in the order of the lines.
        lines: number of lines.
    """

    def __init__(
        self,
        patterns: Sequence[re.Pattern[str]] = (),
        param_patterns: Sequence[re.Pattern[str]] = (),
    ) -> None:
        self._patterns: list[tuple[re.Pattern[str], Literal["param", "metric"]]] = [
            *((pattern, "metric") for pattern in patterns),
            *((pattern, "param") for pattern in param_patterns),
        ]
        self.seen: list[Seen] = []
        self.grids: list[Grid] = []
        self.files: list[SavedFile] = []
        self.left_out: list[LeftOut] = []
        self.lines = 0
        self._epoch: float | None = None
        self._step: int | None = None
        self._has_steps = self._counts_from_0 = False
        self._t_us: int | None = None
        self._line = 0
        self._is_best = False
        self._folds: list[tuple[int, dict[str, Value]]] = []

    def read(self, text: str) -> None:
        """Take a whole log."""
        lines = [_COLOURS.sub("", _last_state(line)) for line in text.split("\n")]
        if lines and not lines[-1].strip():
            lines.pop()
        self.lines = len(lines)
        # What tables and objects are made of, without times and loggers before it.
        stamps = [stamp_of(line[:MAX_LINE]) for line in lines]
        rests = [stamp.rest for stamp in stamps]
        at = 0
        while at < len(lines):
            self._line = at + 1
            self._t_us = stamps[at].t_us if stamps[at].t_us is not None else self._t_us
            at += self._take(lines[at][:MAX_LINE], rests, at)
        self._end_folds()

    def _take(self, raw: str, rests: Sequence[str], at: int) -> int:
        """Take what begins in line *at*; return how many lines that were."""
        if self._by_pattern(raw) or _NOTHING.fullmatch(rests[at]):
            return 1
        if self._by_dialect(rests[at]):
            return 1
        found = fragments.fragment_of(rests, at)
        if found is not None:
            self._object(found.data, "param" if found.is_config else None)
            return found.lines
        config = fragments.namespace_of(rests[at]) or fragments.command_of(rests[at])
        if config is not None:
            self._object(config, "param")
            return 1
        table = tables.table_at(rests, at)
        if table is not None:
            self._table(table)
            return table.lines
        self._plain_line(rests[at])
        return 1

    # --- one kind after the other ----------------------------------------------------------------

    def _by_pattern(self, line: str) -> bool:
        for pattern, wanted in self._patterns:
            found = pattern.search(line)
            if found:
                groups = {name: text for name, text in found.groupdict().items() if text is not None}
                if "time" in groups:
                    self._t_us = stamp_of(groups.pop("time") + " ").t_us or self._t_us
                if "key" in groups and "value" in groups:
                    groups[name_of(groups.pop("key"))] = groups.pop("value")
                self._object({name: _number_or_text(text) for name, text in groups.items()}, wanted)
                return True
        return False

    def _by_dialect(self, line: str) -> bool:
        """Take a line that only one tool writes so."""
        is_best, self._is_best = self._is_best, dialects.announces_best(line)
        scores = dialects.round_of(line)
        if scores is not None and is_best:
            self._object({f"best_{key}": value for key, value in scores.scores.items()}, None)
            self._see("best_iteration", scores.number, None, is_marked=False)
        elif scores is not None:
            self._go_to(Marker(None, scores.number, None, "", True))
            for key, value in scores.scores.items():
                self._see(key, value, "metric", is_marked=True)
        if scores is not None or self._is_best:
            return True
        argument = dialects.argument_of(line)
        if argument is not None:
            self._see(*argument, "param", is_marked=False)
            return True
        fold = dialects.fold_of(line)
        if fold:
            self._folds.append((self._line, fold))
        return fold is not None

    def _end_folds(self) -> None:
        """Make one table of the folds of a search: each has params of its own, which are not the run's."""
        if self._folds:
            folds = [fold for _, fold in self._folds]
            columns = list(dict.fromkeys(name for fold in folds for name in fold))
            rows: list[list[object]] = [[fold.get(name) for name in columns] for fold in folds]
            self.grids.append(Grid(line=self._folds[0][0], columns=columns, rows=rows))
            self._folds = []

    def _object(self, data: Mapping[str, Value], wanted: Literal["param", "metric"] | None) -> None:
        """Take values that were printed together; a step or epoch among them is theirs."""
        marker = _marker_in(data) if wanted != "param" else Marker(None, None, None, "", False)
        if marker.is_there:
            self._go_to(marker)
        for key, value in data.items():
            if not (marker.is_there and key.lower() in _PLACES):
                self._see(key, value, wanted, is_marked=marker.is_there)
        if marker.epoch is not None and marker.epoch != self._step:
            self._see("epoch", marker.epoch, "metric", is_marked=True)

    def _table(self, table: tables.PrintedTable) -> None:
        column = table.step_column
        if column is not None:
            for row in table.rows:
                self._row(table.columns, row, column)
            return
        if table.names_values:
            is_config = bool(re.search("param|config|option|setting|key|name", table.columns[0]))
            for name, value in table.rows:
                self._see(name_of(str(name)), value, "param" if is_config else None, is_marked=False)
            return
        total = table.total_row
        if total is not None:
            for key, value in zip(table.columns, total, strict=True):
                if isinstance(value, (int, float)):
                    self._see(key, value, None, is_marked=False)
        if len(table.rows) > 1 or total is None:
            rows: list[list[object]] = [list(row) for row in table.rows]
            self.grids.append(
                Grid(line=self._line, columns=table.columns, rows=rows, step=self._step, t_us=self._t_us)
            )

    def _row(self, columns: Sequence[str], row: Sequence[Value], step_column: int) -> None:
        """Take a row whose step, or epoch, stands in one of its cells."""
        step = row[step_column]
        if isinstance(step, str) and _OF_ALL.fullmatch(step):
            step = int(step.partition("/")[0])
        if isinstance(step, (int, float)) and float(step).is_integer():
            self._step = int(step)
        for at, (key, value) in enumerate(zip(columns, row, strict=True)):
            if at != step_column and isinstance(value, (int, float)):
                self._see(key, value, "metric", is_marked=True)

    def _plain_line(self, line: str) -> None:
        marker = marker_of(line)
        if marker.is_there:
            self._go_to(marker)
        prefix, rest = split_of(marker.rest)
        found = whole_cells(rest)
        found += _not_within(list(pairs(rest)), found)
        if marker.is_there:
            found += _not_within(list(bare_pairs(rest)), found)
        saved = self._saved_file(line)
        if saved or not _is_all(rest, found):
            found = [pair for pair in found if isinstance(pair.value, (int, float))]
        for pair in found:
            key = pair.key if pair.key.startswith(prefix) else prefix + pair.key
            self._see(key, pair.value, None, is_marked=marker.is_there)
        if not (found or saved or marker.is_there):
            self.left_out.append(LeftOut(line=self._line, text=line))

    def _saved_file(self, line: str) -> bool:
        """Take the file or directory that *line* says was written; tell whether there is one."""
        said = _SAVED.search(line)
        words = re.split(r"[\s'\"=,;()\[\]]+", said[1]) if said else []
        found = next(filter(None, (_PATH.fullmatch(word.rstrip(".:")) for word in words)), None)
        found = found or (_DIRECTORY.search(line) if said else None)
        if found is None:
            return False
        is_checkpoint = (found["suffix"] or "").lower() in _WEIGHTS or (
            not found["suffix"] and "checkpoint" in line.lower()
        )
        self.files.append(
            SavedFile(
                line=self._line,
                path=found["path"],
                is_checkpoint=is_checkpoint,
                step=self._step,
                t_us=self._t_us,
            )
        )
        return True

    # --- where we are ------------------------------------------------------------------------------

    def _go_to(self, marker: Marker) -> None:
        if marker.epoch is not None:
            self._epoch = marker.epoch
            self._counts_from_0 = self._counts_from_0 or marker.epoch == 0
        if marker.step is not None:
            self._has_steps = True
            self._step = marker.step
            epoch = self._epoch
            if marker.steps_in_epoch and not marker.is_total and epoch is not None and math.isfinite(epoch):
                before = epoch if self._counts_from_0 else epoch - 1
                self._step = int(max(before, 0)) * marker.steps_in_epoch + marker.step
        elif marker.epoch is not None and not self._has_steps and marker.epoch.is_integer():
            self._step = int(marker.epoch)

    def _see(
        self, key: str, value: Value, wanted: Literal["param", "metric"] | None, *, is_marked: bool
    ) -> None:
        if key and value is not None:
            self.seen.append(
                Seen(
                    key=key,
                    value=value,
                    line=self._line,
                    wanted=wanted,
                    is_marked=is_marked,
                    step=self._step,
                    t_us=self._t_us,
                )
            )


def _is_all(line: str, found: Sequence[Pair]) -> bool:
    """Tell whether *line* consists of pairs: prose with a colon in it is no param."""
    placed = sorted(found, key=lambda pair: pair.start)
    ends = [0, *(pair.end for pair in placed)]
    starts = [*(pair.start for pair in placed), len(line)]
    return all(_NOTHING.fullmatch(line, end, start) for end, start in zip(ends, starts, strict=True))


def _last_state(line: str) -> str:
    r"""Return what stands after the last ``\r``, as a terminal would show a progress bar."""
    return line.rstrip("\r").rpartition("\r")[2]


def _marker_in(data: Mapping[str, Value]) -> Marker:
    named = {key.lower(): value for key, value in data.items()}
    epoch, step = named.get("epoch"), None
    for name in ("global_step", "step", "iteration", "iter"):
        value = named.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and step is None:
            step = value
    number = float(epoch) if isinstance(epoch, (int, float)) and not isinstance(epoch, bool) else None
    return Marker(number, step, None, "", True)


def _number_or_text(text: str) -> Value:
    number = number_of(text)
    return number[0] if number else value_of(text)


def _not_within(new: Sequence[Pair], old: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in new if not any(o.start < pair.end and pair.start < o.end for o in old)]
