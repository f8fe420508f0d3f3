"""Arguments of the kernel's own events, as the kernel lays them out in a record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.ftrace.events import FieldPlace
from qtctl.backends.table import recorded_arguments
from qtctl.model import Argument, Kind
from qtctl.records.argument_arrays import READ, ArgumentArrays
from qtctl.records.batch import ArgumentReader
from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.event_table import EventTable
from qtctl.shapes import elements, member, members, parsed, text, whole

_NUMBERS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_SIGNED = {size: np.dtype(f"i{size}") for size in _NUMBERS}


class KernelArguments:
    """Reads arguments of kernel events by their ``places``, and of others by ``others``.

    ``places`` are by name of the event; None for ``others``: they are printed text.
    """

    def __init__(
        self,
        table: EventTable,
        places: Mapping[str, Sequence[FieldPlace]],
        others: ArgumentReader | None = None,
    ) -> None:
        self._table = table
        self._places = places
        self._others = others

    @property
    def binary(self) -> bool:
        """Whether the bytes of the others are not text."""
        return self._others is not None and self._others.binary

    def beside(self, others: ArgumentReader | None) -> KernelArguments:
        """Return a reader of the same events beside others."""
        return KernelArguments(self._table, self._places, others)

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        others = {} if self._others is None else self._others.stored()
        places = json.dumps(self._places)
        return {"arguments": "kernel", "places": places, "others": json.dumps(others)}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        places = self._places.get(self._table.names[event])
        if places is None:
            reader = self._table if self._others is None else self._others
            return reader.read(data, event, begin, stop)
        declaration = self._table.declaration(event)
        arguments = () if declaration is None else declaration.arguments
        return _read(data, arguments, places, begin, stop)

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return which of the rows have a text that may be cut."""
        if self._others is None or self._table.names[event] in self._places:
            return np.zeros(len(begin), np.bool_)
        return self._others.cut(data, event, begin, stop)


def _read(
    data: bytes,
    arguments: Sequence[Argument],
    places: Sequence[FieldPlace],
    begin: Int64Array,
    stop: Int64Array,
) -> tuple[dict[str, Column], BoolArray]:
    """Read the records of one event."""
    arrays = ArgumentArrays(arguments, len(begin))
    texts = [place for place in places if place.form != "number"]
    is_text = [one.kind is Kind.STRING for one in arguments]
    if not len(begin) or is_text != [place in texts for place in places]:
        return arrays.columns(data)
    octets = np.frombuffer(data, np.uint8)
    needed = max((place.offset + place.size for place in places), default=0)
    rows = np.flatnonzero(stop - begin >= needed)
    spans = [_text(octets, begin[rows], place) for place in texts]
    # What lies outside of the record cannot be read.
    held = np.ones(len(rows), np.bool_)
    for first, end in spans:
        held &= (begin[rows] <= first) & (first <= end) & (end <= stop[rows])
    rows = rows[held]
    for number, (first, end) in enumerate(spans):
        arrays.spans[2 * number, rows], arrays.spans[2 * number + 1, rows] = first[held], end[held]
    numbers = (pair for pair in zip(arguments, places, strict=True) if pair[1] not in texts)
    for values, (argument, place) in zip(arrays.values, numbers, strict=True):
        kind = (_SIGNED if argument.signed else _NUMBERS)[place.size]
        values[rows] = _gather(octets, begin[rows], place, kind).astype(np.int64).view(np.uint64)
    arrays.ok[rows] = READ
    return arrays.columns(data)


def _gather(
    octets: NDArray[np.uint8], at: Int64Array, place: FieldPlace, kind: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Return a number of each record."""
    spots = at[:, None] + (place.offset + np.arange(place.size))
    numbers: NDArray[np.generic] = octets[spots].view(kind).reshape(-1)
    return numbers


def _text(
    octets: NDArray[np.uint8], at: Int64Array, place: FieldPlace
) -> tuple[Int64Array, Int64Array]:
    """Return where a text of each record begins and ends, without its NUL."""
    if place.form == "text":
        first = at + place.offset
        ends = octets[first[:, None] + np.arange(place.size)] == 0
        size = np.where(ends.any(axis=1), ends.argmax(axis=1), place.size)
        return first, first + size
    where = _gather(octets, at, place, _NUMBERS[4]).astype(np.int64)
    base = at if place.form == "data" else at + place.offset + place.size
    first, size = base + (where & 0xFFFF), where >> 16
    last = np.clip(first + size - 1, 0, len(octets) - 1)
    return first, first + size - ((size > 0) & (octets[last] == 0))


def reader(table: EventTable, facts: Mapping[str, object]) -> ArgumentReader:
    """Return the reader for recorded rows."""
    known = members(parsed(text(facts["places"], "the places")), "the places")
    places = {name: tuple(map(_place, elements(one, "places"))) for name, one in known.items()}
    others = members(parsed(text(facts["others"], "other arguments")), "other arguments")
    inner = None
    if others:
        form = text(member(others, "arguments"), "the form of arguments")
        inner = recorded_arguments(form).reader(table, others)
    return KernelArguments(table, places, inner)


def _place(written: object) -> FieldPlace:
    offset, size, form = elements(written, "a place")
    found = FieldPlace(
        whole(offset, "a place", 0, 1 << 16),
        whole(size, "a size", 0, 1 << 12),
        text(form, "a form"),
    )
    wrong = found.form == "number" and found.size not in _NUMBERS
    if wrong or (found.form in ("data", "relative") and found.size != 4):
        raise ValueError("the size of a place")
    return found
