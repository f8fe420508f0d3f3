"""Arguments as a trace has them, and as babeltrace2 printed them for qtctl 0.1.

The latter are ``{ name = value, ... }``, texts in quotes and escaped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from qtctl.backends.ust import kernel
from qtctl.backends.ust.ctf import PROVIDER, EventClass, FieldLayout, plain_fields
from qtctl.model import Argument, Kind
from qtctl.records.argument_arrays import ArgumentArrays
from qtctl.records.batch import ArgumentReader
from qtctl.records.columns import NULL, BoolArray, Column, Int64Array, StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.kernels import printed
from qtctl.shapes import elements, flag, members, parsed, text

_FIELD = re.compile(rb'(?P<name>\w+) = (?:"(?:[^"\\]|\\.)*"|[-\w.]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_ORDERS = (0, 1) if sys.byteorder == "little" else (2, 0)
"""How the kernel is told that a number is in little or big endian: 0 is this machine's order."""
_ALIGNS = (1, 2, 4, 8)
_LETTERS["e"] = "\x1b"


def _unescape(escaped: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 3:
            value = int(code[1:], 16)
            return chr(value) if value < 128 else chr(0xDC00 + value)
        return _LETTERS.get(code, code)

    return _ESCAPE.sub(one, escaped) if "\\" in escaped else escaped


def _unescaped(column: StringColumn) -> StringColumn:
    """Undo the escapes, once for each distinct text."""
    places: dict[str | None, int] = {}
    texts = (None if one is None else _unescape(one) for one in column.uniques)
    back = [places.setdefault(one, len(places)) for one in texts]
    return StringColumn(np.array(back, np.int32)[column.codes], tuple(places))


class CtfArguments:
    """Reads the fields of records; see ``batch.ArgumentReader``.

    ``layouts`` has those of events, by index, that differ from their declarations in ``table``;
    an event that has neither stays raw.
    """

    binary: ClassVar[bool] = True

    def __init__(
        self,
        table: EventTable,
        layouts: Mapping[int, Sequence[FieldLayout] | None],
        *,
        big: bool = sys.byteorder == "big",
    ) -> None:
        self._table = table
        self._big = big
        self._layouts = layouts
        self._plans: dict[int, tuple[list[Argument], Int64Array] | None] = {}
        self._stored: dict[str, str] = {}

    @classmethod
    def of(cls, table: EventTable, events: Iterable[EventClass], *, big: bool) -> CtfArguments:
        """Return the reader for events of a trace, whose numbers are mostly ``big`` endian."""
        layouts = {}
        for event in events:
            index = table.indices.get(event.name.removeprefix(PROVIDER), -1)
            fields = plain_fields(event)
            if index >= 0 and fields != _as_declared(table, index, big=big):
                layouts[index] = fields
        return cls(table, layouts, big=big)

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs: the fields that are not as declared."""
        if not self._stored:
            names = self._table.names
            odd = {names[index]: fields for index, fields in self._layouts.items()}
            written = json.dumps(odd, separators=(",", ":"))
            order = "big" if self._big else "little"
            self._stored = {"arguments": "ctf", "layout": written, "order": order}
        return self._stored

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        if event not in self._plans:
            self._plans[event] = self._plan(event)
        plan = self._plans[event]
        if plan is None:
            return {}, np.zeros(len(begin), np.bool_)
        arguments, fields = plan
        arrays = ArgumentArrays(arguments, len(begin))
        kernel.read_values(
            data,
            fields.data,
            np.ascontiguousarray(begin).data,
            np.ascontiguousarray(stop).data,
            arrays.values.reshape(-1).data,
            arrays.spans.reshape(-1).data,
            arrays.ok.data,
        )
        return arrays.columns(data, NULL.encode())

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return that none of the rows is cut: LTTng drops what has no room."""
        return np.zeros(len(begin), np.bool_)

    def _as_declared(self, event: int) -> tuple[FieldLayout, ...] | None:
        return _as_declared(self._table, event, big=self._big)

    def _plan(self, event: int) -> tuple[list[Argument], Int64Array] | None:
        layouts = self._layouts
        fields = layouts[event] if event in layouts else self._as_declared(event)
        if fields is None:
            return None
        declaration = self._table.declaration(event)
        known = {one.name: one for one in declaration.arguments} if declaration else {}
        arguments = [_argument(field, known.get(field.name)) for field in fields]
        numbers = [(field.bits, field.signed, field.align, _ORDERS[field.big]) for field in fields]
        return arguments, np.array(numbers, np.int64).reshape(-1)


def _as_declared(table: EventTable, event: int, *, big: bool) -> tuple[FieldLayout, ...] | None:
    """Return the fields of an event that has all declared arguments, as LTTng writes them here."""
    declaration = table.declaration(event)
    if declaration is None:
        return None
    return tuple(
        FieldLayout(one.name, 0)
        if one.kind is Kind.STRING
        else FieldLayout(one.name, one.bits, one.signed, 1, big)
        for one in declaration.arguments
    )


def _argument(field: FieldLayout, declared: Argument | None) -> Argument:
    """Return a field as an argument: the declared one of that name, if it is of its kind."""
    kind = Kind.STRING if not field.bits else Kind.INTEGER
    if declared is not None and (declared.kind is Kind.STRING) == (kind is Kind.STRING):
        return declared if not field.bits else declared._replace(signed=field.signed)
    ctype = f"{'' if field.signed else 'u'}int{field.bits}_t" if field.bits else "const char *"
    return Argument(field.name, ctype, kind, field.bits or 64, field.signed)


@dataclass(frozen=True, slots=True)
class FieldReader:
    """Reads ``{ name = value, ... }`` into columns typed as declared.

    QEMU leaves arguments out of its tracepoints whose C type its generator does not know: the
    first row of an event that can be read tells which are there. An event without a declaration
    stays text.
    """

    events: EventTable
    binary: ClassVar[bool] = False
    _printed: dict[int, list[Argument]] = field(default_factory=dict, repr=False)

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "fields"}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        arguments = self._arguments_of(event, data, begin, stop)
        if arguments is None or not len(begin):
            return {}, np.zeros(len(begin), np.bool_)
        names = [one.name.encode("utf-8", "surrogateescape") for one in arguments]
        sizes = [
            (len(name), 0 if one.kind is Kind.STRING else one.bits, one.signed)
            for name, one in zip(names, arguments, strict=True)
        ]
        arrays = ArgumentArrays(arguments, len(begin))
        escaped = np.zeros(arrays.texts, np.uint8)
        printed.parse_fields(
            data,
            np.array(sizes, np.int64).reshape(-1).data,
            b"".join(names),
            begin.data,
            stop.data,
            arrays.values.reshape(-1).data,
            arrays.spans.reshape(-1).data,
            escaped.data,
            arrays.ok.data,
        )
        columns, good = arrays.columns(data, NULL.encode())
        strings = [(name, one) for name, one in columns.items() if isinstance(one, StringColumn)]
        for place in np.flatnonzero(escaped).tolist():
            name, column = strings[place]
            columns[name] = _unescaped(column)
        return columns, good

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return that none of the rows is cut: LTTng drops what has no room."""
        return np.zeros(len(begin), np.bool_)

    def _arguments_of(
        self, event: int, data: bytes, begin: Int64Array, stop: Int64Array
    ) -> list[Argument] | None:
        """Return the arguments that an event prints; None until a row shows them."""
        declaration = self.events.declaration(event)
        if event in self._printed or declaration is None:
            return self._printed.get(event)
        by_name = {argument.name: argument for argument in declaration.arguments}
        for first, last in zip(begin[:8].tolist(), stop[:8].tolist(), strict=True):
            row = data[first:last]
            names = [match["name"].decode() for match in _FIELD.finditer(row)]
            if row[-2:] == b" }" and len(set(names)) == len(names) and set(names) <= set(by_name):
                return self._printed.setdefault(event, [by_name[name] for name in names])
        return None


def reader(table: EventTable, facts: Mapping[str, object]) -> ArgumentReader:
    """Return the reader for recorded rows."""
    if facts["arguments"] == "fields":
        return FieldReader(table)
    found = {}
    for name, fields in members(parsed(str(facts["layout"])), "the layouts").items():
        if name in table.indices:
            found[table.indices[name]] = None if fields is None else _recorded(fields)
    return CtfArguments(table, found, big=facts["order"] == "big")


def _recorded(fields: object) -> tuple[FieldLayout, ...]:
    """Return the fields of an event in a recording.

    Raises:
        ValueError: they make no sense.
    """
    made = []
    for one in elements(fields, "the fields of an event"):
        name, bits, signed, align, big = elements(one, "a field")
        if bits not in (0, 8, 16, 32, 64) or align not in _ALIGNS:
            raise ValueError(f"a field of {bits} bits at {align}")
        made.append(
            FieldLayout(text(name, "a name"), bits, flag(signed, "a"), align, flag(big, "a"))
        )
    return tuple(made)
