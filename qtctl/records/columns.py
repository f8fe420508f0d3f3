"""Columns: the arguments of many records of one event, as arrays. Record: one record as an object.

Integers are 64-bit arrays, which hold every C type exactly. Texts are distinct values and a code
per row, so that a text is processed once, however often it occurs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Backend, Clock
from qtctl.records.kernels import grouping
from qtctl.records.origins import UNKNOWN, Origin

NULL = "(null)"
"""What glibc prints for a text that is NULL."""
Int64Array: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


def readable(text: str) -> str:
    r"""Return ``text`` with bytes that were not valid UTF-8 as ``\xNN``, as on a terminal."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # lone surrogates, which JSON may contain
        return text.encode("utf-8", "backslashreplace").decode()


def rows_by_key(keys: NDArray[np.int32]) -> tuple[Int64Array, Int64Array]:
    """Return row numbers sorted by key (-1 and up), in order within each; and where keys begin.

    The rows of key k are between places k + 1 and k + 2 of the second array.
    """
    bounds = np.append(0, np.cumsum(np.bincount(keys + 1)))
    order = np.empty(len(keys), np.int64)
    grouping.group_rows(np.ascontiguousarray(keys).data, bounds[:-1].copy().data, order.data)
    return order, bounds


class StringColumn:
    """One text per row: ``uniques`` (the distinct texts) and ``codes`` (int32 indices in it).

    None among the texts is a NULL pointer. Built from codes, or from ranges of bytes, which are
    factorized on first access. Bytes that are not UTF-8 are surrogate escapes.
    """

    __slots__ = ("_codes", "_data", "_null", "_starts", "_stops", "_uniques")

    def __init__(self, codes: NDArray[np.int32], uniques: tuple[str | None, ...]) -> None:
        self._codes: NDArray[np.int32] | None = codes
        self._uniques = uniques
        self._null: bytes | None = None
        self._data = b""
        self._starts = self._stops = np.empty(0, np.int64)

    @classmethod
    def from_spans(
        cls, data: bytes, starts: Int64Array, stops: Int64Array, null: bytes | None = None
    ) -> StringColumn:
        """Return a column of data[starts[i]:stops[i]]; both arrays are C-contiguous int64.

        ``null`` is what stands for NULL.
        """
        column = cls(np.empty(0, np.int32), ())
        column._codes, column._null = None, null
        column._data, column._starts, column._stops = data, starts, stops
        return column

    @property
    def codes(self) -> NDArray[np.int32]:
        """Index of each row's text in ``uniques``."""
        return self._factorize()[0]

    @property
    def uniques(self) -> tuple[str | None, ...]:
        """Distinct texts, in order of appearance."""
        return self._factorize()[1]

    @property
    def texts(self) -> tuple[str, ...]:
        """Distinct texts, with ``(null)`` for NULL."""
        return tuple(NULL if text is None else text for text in self.uniques)

    @property
    def nulls(self) -> BoolArray | None:
        """Mask of the rows that are NULL; None if none is."""
        if None not in self.uniques:
            return None
        return np.array([text is None for text in self.uniques], np.bool_)[self.codes]

    def _factorize(self) -> tuple[NDArray[np.int32], tuple[str | None, ...]]:
        if self._codes is None:
            rows = len(self._starts)
            codes = np.empty(rows, np.int32)
            firsts = np.empty(rows, np.int64)
            slots = np.full(1 << max(4, (2 * rows).bit_length()), -1, np.int32)
            count = grouping.factorize(
                self._data,
                self._starts.data,
                self._stops.data,
                slots.data,
                codes.data,
                firsts.data,
            )
            first = firsts[:count]
            spans = zip(self._starts[first].tolist(), self._stops[first].tolist(), strict=True)
            texts = (self._data[a:b] for a, b in spans)
            self._uniques = tuple(
                None if text == self._null else str(text, "utf-8", "surrogateescape")
                for text in texts
            )
            # Texts that differ as bytes differ as str too: surrogateescape is one to one.
            self._codes = codes
            self._data, self._starts, self._stops = b"", firsts[:0], firsts[:0]
        return self._codes, self._uniques

    def __len__(self) -> int:
        return len(self._starts) if self._codes is None else len(self._codes)

    def take(self, rows: NDArray[Any]) -> StringColumn:
        """Return a column of the rows that ``rows`` (a mask or indices) selects."""
        if self._codes is None:
            starts, stops = self._starts[rows], self._stops[rows]
            return StringColumn.from_spans(self._data, starts, stops, self._null)
        return StringColumn(self._codes[rows], self._uniques)

    def tolist(self) -> list[str | None]:
        """Return the text of each row."""
        uniques = self.uniques
        return [uniques[code] for code in self.codes.tolist()]


Column: TypeAlias = NDArray[np.int64] | NDArray[np.uint64] | StringColumn


@dataclass(frozen=True, slots=True)
class Columns:
    """Arguments of the rows of one event.

    ``values`` maps each argument that is printed, in declared order, to its column: int64 or uint64
    as declared, or a StringColumn. ``ok[i]`` is False if row i could not be parsed: its values are
    undefined, and the batch has its text. ``rows`` are the indices of the rows in the batch.
    """

    rows: Int64Array
    values: Mapping[str, Column]
    ok: BoolArray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(slots=True)
class Record:
    """One record. A line that is not an event has an empty ``name``, and its text in ``line``.

    ``time_ns`` is in ns, on ``clock``. ``origin`` is where it comes from. ``raw`` is the text of
    arguments that could not be parsed; ``args`` is empty then. ``cut``: that text is not whole, or
    may not be.
    """

    name: str
    args: dict[str, int | str | None]
    time_ns: int
    clock: Clock
    tid: int | None
    backend: Backend
    origin: Origin = UNKNOWN
    raw: str | None = None
    line: str | None = None
    cut: bool = False

    @property
    def pid(self) -> int | None:
        """The process id of the guest, or None."""
        return self.origin.pid
