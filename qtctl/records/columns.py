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


class StringColumn:
    """One text per row: ``uniques`` (the distinct texts) and ``codes`` (int32 indices in it).

    Built from codes, or from ranges of bytes, which are factorized on first access. Bytes that are
    not UTF-8 are surrogate escapes.
    """

    __slots__ = ("_codes", "_data", "_starts", "_stops", "_uniques")

    def __init__(self, codes: NDArray[np.int32], uniques: tuple[str, ...]) -> None:
        self._codes: NDArray[np.int32] | None = codes
        self._uniques = uniques
        self._data = b""
        self._starts = self._stops = np.empty(0, np.int64)

    @classmethod
    def from_spans(cls, data: bytes, starts: Int64Array, stops: Int64Array) -> StringColumn:
        """Return a column of data[starts[i]:stops[i]]; both arrays are C-contiguous int64."""
        column = cls(np.empty(0, np.int32), ())
        column._codes = None
        column._data, column._starts, column._stops = data, starts, stops
        return column

    @property
    def codes(self) -> NDArray[np.int32]:
        """Index of each row's text in ``uniques``."""
        return self._factorize()[0]

    @property
    def uniques(self) -> tuple[str, ...]:
        """Distinct texts, in order of appearance."""
        return self._factorize()[1]

    def _factorize(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
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
            data = self._data
            self._uniques = tuple(str(data[a:b], "utf-8", "surrogateescape") for a, b in spans)
            # Texts that differ as bytes differ as str too: surrogateescape is one to one.
            self._codes = codes
            self._data, self._starts, self._stops = b"", firsts[:0], firsts[:0]
        return self._codes, self._uniques

    def __len__(self) -> int:
        return len(self._starts) if self._codes is None else len(self._codes)

    def take(self, rows: NDArray[Any]) -> StringColumn:
        """Return a column of the rows that ``rows`` (a mask or indices) selects."""
        if self._codes is None:
            return StringColumn.from_spans(self._data, self._starts[rows], self._stops[rows])
        return StringColumn(self._codes[rows], self._uniques)

    def tolist(self) -> list[str]:
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

    ``time_ns`` is in ns, on ``clock``. ``raw`` is the text of arguments that could not be parsed;
    ``args`` is empty then.
    """

    name: str
    args: dict[str, int | str]
    time_ns: int
    clock: Clock
    tid: int | None
    backend: Backend
    pid: int | None = None
    raw: str | None = None
    line: str | None = None
