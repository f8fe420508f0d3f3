"""Arguments as babeltrace2 prints them: ``{ name = value, ... }``, texts in quotes and escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.ust import kernel as lttng
from qtctl.model import Argument, Kind
from qtctl.records.columns import BoolArray, Column, Int64Array, StringColumn
from qtctl.records.event_table import EventTable

_FIELD = re.compile(rb'(?P<name>\w+) = (?:"(?:[^"\\]|\\.)*"|[-\w.]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_LETTERS["e"] = "\x1b"


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 3:
            value = int(code[1:], 16)
            return chr(value) if value < 128 else chr(0xDC00 + value)
        return _LETTERS.get(code, code)

    return _ESCAPE.sub(one, text) if "\\" in text else text


def _unescaped(column: StringColumn) -> StringColumn:
    """Undo the escapes, once for each distinct text."""
    places: dict[str, int] = {}
    back = [places.setdefault(_unescape(text), len(places)) for text in column.uniques]
    return StringColumn(np.array(back, np.int32)[column.codes], tuple(places))


@dataclass(frozen=True, slots=True)
class _FieldPlan:
    """The arguments an event prints, as the kernel reads them."""

    table: NDArray[np.int64]
    names: bytes
    numbers: int
    texts: int
    columns: tuple[tuple[Argument, int], ...]


def _plan(arguments: list[Argument]) -> _FieldPlan:
    table = np.zeros((len(arguments) + 1, len(lttng.FIELDS)), np.int64)
    names, numbers, texts = b"", 0, 0
    columns = []
    for row, argument in zip(table[:-1], arguments, strict=True):
        name = argument.name.encode("utf-8", "surrogateescape")
        is_text = argument.kind is Kind.STRING
        place = texts if is_text else numbers
        row[:] = len(names), len(name), is_text, place, argument.bits, argument.signed
        columns.append((argument, place))
        names += name
        texts, numbers = texts + is_text, numbers + (not is_text)
    return _FieldPlan(table, names + b" ", numbers, texts, tuple(columns))


@dataclass(frozen=True, slots=True)
class FieldReader:
    """Reads ``{ name = value, ... }`` into columns typed as declared.

    QEMU leaves arguments out of its tracepoints whose C type its generator does not know: the
    first row of an event that can be read tells which are there. An event without a declaration
    stays text.
    """

    events: EventTable
    binary: ClassVar[bool] = False
    _plans: dict[int, _FieldPlan] = field(default_factory=dict, repr=False)

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "fields"}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        rows = len(begin)
        plan = self._plan_of(event, data, begin, stop)
        if plan is None or not rows:
            return {}, np.zeros(rows, np.bool_)
        values = np.zeros(plan.numbers * rows + 1, np.uint64)
        spans = np.zeros(2 * plan.texts * rows + 1, np.int64)
        escaped = np.zeros(plan.texts + 1, np.uint8)
        ok = np.zeros(rows, np.uint8)
        lttng.parse_fields(
            data,
            plan.table.reshape(-1).data,
            plan.names,
            begin.data,
            stop.data,
            np.zeros(1, np.uint64).data,
            *(array.data for array in (values, spans, escaped, ok)),
        )
        good = ok.view(np.bool_)
        numbers = values[:-1].reshape(plan.numbers, rows)
        edges = spans[:-1].reshape(2 * plan.texts, rows)
        if not good.all():
            numbers[:, ~good] = 0
            edges[:, ~good] = 0
        columns: dict[str, Column] = {}
        for argument, place in plan.columns:
            if argument.kind is Kind.STRING:
                text = StringColumn.from_spans(data, edges[2 * place], edges[2 * place + 1])
                columns[argument.name] = _unescaped(text) if escaped[place] else text
            elif argument.signed:
                columns[argument.name] = numbers[place].view(np.int64)
            else:
                columns[argument.name] = numbers[place]
        return columns, good

    def _plan_of(
        self, event: int, data: bytes, begin: Int64Array, stop: Int64Array
    ) -> _FieldPlan | None:
        if event in self._plans:
            return self._plans[event]
        declaration = self.events.declaration(event)
        if declaration is None:
            return None
        by_name = {argument.name: argument for argument in declaration.arguments}
        for first, last in zip(begin[:8].tolist(), stop[:8].tolist(), strict=True):
            row = data[first:last]
            names = [match["name"].decode() for match in _FIELD.finditer(row)]
            if row[-2:] == b" }" and len(set(names)) == len(names) and set(names) <= set(by_name):
                self._plans[event] = _plan([by_name[name] for name in names])
                return self._plans[event]
        return None


def reader(table: EventTable, facts: Mapping[str, object]) -> FieldReader:
    """Return the reader for recorded rows."""
    return FieldReader(table)
