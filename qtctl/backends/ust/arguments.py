"""Arguments as babeltrace2 prints them: ``{ name = value, ... }``, texts in quotes and escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from qtctl.backends.ust import kernel as lttng
from qtctl.model import Argument, Kind
from qtctl.records.argument_arrays import ArgumentArrays
from qtctl.records.columns import NULL, BoolArray, Column, Int64Array, StringColumn
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
    places: dict[str | None, int] = {}
    texts = (None if text is None else _unescape(text) for text in column.uniques)
    back = [places.setdefault(text, len(places)) for text in texts]
    return StringColumn(np.array(back, np.int32)[column.codes], tuple(places))


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
        lttng.parse_fields(
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
        texts = [(name, one) for name, one in columns.items() if isinstance(one, StringColumn)]
        for place in np.flatnonzero(escaped).tolist():
            name, text = texts[place]
            columns[name] = _unescaped(text)
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


def reader(table: EventTable, facts: Mapping[str, object]) -> FieldReader:
    """Return the reader for recorded rows."""
    return FieldReader(table)
