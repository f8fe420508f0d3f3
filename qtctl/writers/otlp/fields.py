"""Protobuf fields of OTLP, written by hand where its own classes would make an object a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Column, Int64Array, StringColumn, readable
from qtctl.records.kernels import writing
from qtctl.writers.otlp import kernel

LENGTH = 2
"""The wire type of fields with a length."""
FIXED64 = 1
VARINT = 0


def varint(number: int) -> bytes:
    """Return a whole number, from 0, as protobuf writes it."""
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def tag(field: int, kind: int) -> bytes:
    """Return what stands before a field."""
    return varint(field << 3 | kind)


def field(number: int, *parts: bytes) -> bytes:
    """Return a field of bytes, a text or a message."""
    return tag(number, LENGTH) + varint(sum(map(len, parts))) + b"".join(parts)


def text_field(number: int, text: str) -> bytes:
    r"""Return a field of text; bytes that are not UTF-8 as ``\xNN``."""
    return field(number, readable(text).encode())


def text_value(number: int, text: str) -> bytes:
    """Return a field with an ``AnyValue`` that is a text."""
    return field(number, text_field(1, text))


def attribute(number: int, key: str, value: str | int) -> bytes:
    """Return a field with a ``KeyValue``."""
    if isinstance(value, str):
        return field(number, text_field(1, key), text_value(2, value))
    whole = tag(3, VARINT) + varint(value & ((1 << 64) - 1))
    return field(number, text_field(1, key), field(2, whole))


class MessageBlock:
    """MessageBlock of one form for ``rows`` of a batch: their fields, one after the other.

    ``attributes`` is the number of the field that holds attributes.
    """

    def __init__(self, rows: Int64Array, attributes: int) -> None:
        self.rows = rows
        self.room = 0  # upper bound in bytes
        self._attributes = attributes
        self._plan: list[int] = []
        self._texts = bytearray()
        self._edges: list[int] = []
        self._columns: list[NDArray[np.uint64]] = []

    def literal(self, fields: bytes) -> None:
        """Append the same bytes to every message."""
        self.room += len(fields) * len(self.rows)
        self._piece(kernel.LITERAL, *self._add(fields))

    def fixed(self, number: int, values: NDArray[Any]) -> None:
        """Append a field of 64 bits."""
        self.literal(tag(number, FIXED64))
        self.raw(values)

    def raw(self, values: NDArray[Any]) -> None:
        """Append the 8 bytes of each value."""
        self.room += 8 * len(self.rows)
        self._piece(kernel.FIXED, 0, 0, values)

    def attribute(self, key: str, column: Column) -> None:
        """Append an attribute; a text that is NULL, which OTLP has as no value, has none."""
        if isinstance(column, StringColumn):
            found = [
                field(self._attributes, text_field(1, key))
                if text is None
                else attribute(self._attributes, key, text)
                for text in column.uniques
            ]
            self.choice(column.codes, found)
            return
        text = tag(self._attributes, LENGTH) + text_field(1, key)
        kind, longest = kernel.SIGNED, kernel.LONGEST_SIGNED
        if column.dtype == np.uint64:
            kind, longest = kernel.UNSIGNED, kernel.LONGEST_UNSIGNED
        self.room += (len(text) + longest) * len(self.rows)
        self._piece(kind, *self._add(text), column)

    def choice(self, codes: NDArray[Any], texts: Sequence[bytes]) -> None:
        """Append texts[codes[i]] to message i."""
        sizes = np.array([len(text) for text in texts], np.int64)
        begins = len(self._texts) + np.append(0, np.cumsum(sizes))
        self._piece(kernel.CHOICE, len(self._edges), 0, codes.astype(np.uint64))
        self._edges += begins.tolist()
        self._texts += b"".join(texts)
        self.room += int(sizes[codes].sum()) if len(codes) else 0

    def _add(self, text: bytes) -> tuple[int, int]:
        at = len(self._texts)
        self._texts += text
        return at, len(self._texts)

    def _piece(self, kind: int, one: int, two: int, values: NDArray[Any] | None = None) -> None:
        self._plan += (kind, len(self._columns), one, two)
        if values is not None:
            self._columns.append(np.ascontiguousarray(values).view(np.uint64))

    def write(
        self, number: int, out: NDArray[np.uint8], begin: Int64Array, stop: Int64Array, at: int
    ) -> int:
        """Write the messages, each as field ``number``, to out[at:]; return the end."""
        values = np.concatenate(self._columns) if self._columns else np.empty(0, np.uint64)
        return kernel.write_messages(
            np.array(self._plan, np.int64).data,
            bytes(self._texts),
            np.array(self._edges, np.int64).data,
            values.data,
            np.ascontiguousarray(self.rows).data,
            tag(number, LENGTH)[0],
            out.data,
            begin.data,
            stop.data,
            at,
        )


def written(
    blocks: Sequence[MessageBlock], number: int, most: int
) -> list[tuple[NDArray[np.uint8], int]]:
    """Return the messages of a batch in row order, in parts of about ``most`` bytes or less.

    The blocks together hold each row once. Each part comes with its number of messages.
    """
    rows = sum(len(block.rows) for block in blocks)
    if not rows:
        return []
    begin, stop = np.empty(rows, np.int64), np.empty(rows, np.int64)
    heads = 8 * rows  # tags and lengths
    out = np.empty(heads + sum(block.room for block in blocks), np.uint8)
    at = 0
    for block in blocks:
        at = block.write(number, out, begin, stop, at)
    ends = np.cumsum(stop - begin)
    if len(blocks) > 1:
        unordered, out = out, np.empty(at, np.uint8)
        writing.gather(unordered.data, begin.data, stop.data, out.data)
    parts, row, left = [], 0, 0
    while row < rows:
        after = max(row + 1, int(np.searchsorted(ends, left + most, "right")))
        right = int(ends[after - 1])
        parts.append((out[left:right], after - row))
        row, left = after, right
    return parts
