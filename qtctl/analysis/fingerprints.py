"""Fingerprints of records: 64-bit hashes that are equal in two runs where the records are.

Host addresses and threads differ between runs, so they are kept apart, to be matched by which
stands for which. An address is an argument of a pointer type; in arguments that could not be
parsed, a hexadecimal number above 4 GiB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import Column, Int64Array, StringColumn

UInt64Array = NDArray[np.uint64]

_MIX = np.uint64(0xD6E8FEB86659FD93)
_ADDRESS = re.compile(r"0x[0-9a-f]{9,16}\b")


def hashed(column: Column) -> UInt64Array:
    """Return 64 bits a row: of a number itself, of a text a hash."""
    if not isinstance(column, StringColumn):
        return column.view(np.uint64)
    return _hashes(column.texts)[column.codes]


def combined(first: UInt64Array, *others: UInt64Array) -> UInt64Array:
    """Return one 64-bit hash a row over several columns; one column alone stays as it is."""
    for other in others:
        first = (first ^ (first >> np.uint64(32))) * _MIX
        first = (first ^ (first >> np.uint64(29))) * _MIX ^ other
    return first


def _hashes(texts: Sequence[str]) -> UInt64Array:
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    return np.array(
        [int.from_bytes(blake2b(text, digest_size=8).digest()) for text in encoded], np.uint64
    )


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Columns with one row a record of a batch.

    ``event`` is a hash of the event's name, ``whole`` of the name and all arguments but addresses.
    The addresses of row i are ``addresses[begin[i]:begin[i + 1]]``.
    """

    event: UInt64Array
    whole: UInt64Array
    addresses: UInt64Array
    begin: Int64Array

    @classmethod
    def of(cls, batch: Batch) -> Fingerprints:
        """Return the fingerprints of a batch without lines of text."""
        event, whole = (np.empty(len(batch), np.uint64) for _ in range(2))
        places: list[Int64Array] = [np.empty(0, np.int64)]
        addresses: list[UInt64Array] = [np.empty(0, np.uint64)]
        for index, rows in batch.groups().items():
            event[rows] = name = _hashes([batch.names[index]])
            columns = batch.arguments(index)
            good = np.flatnonzero(columns.ok)
            parts = []
            for argument, column in columns.values.items():
                numbers = hashed(column)[good]
                if is_address(batch, index, argument):
                    places.append(rows[good])
                    addresses.append(numbers)
                    numbers = (numbers != 0).astype(np.uint64)
                parts.append(numbers)
            whole[rows[good]] = combined(np.repeat(name, len(good)), *parts)
            bad = rows[~columns.ok]
            if len(bad):
                texts = batch.raws(bad)
                found = [_ADDRESS.findall(text) for text in texts.texts]
                plain = _hashes(["raw " + _ADDRESS.sub("&", text) for text in texts.texts])
                whole[bad] = combined(np.repeat(name, len(bad)), plain[texts.codes])
                for row, code in zip(bad.tolist(), texts.codes.tolist(), strict=True):
                    places.append(np.full(len(found[code]), row, np.int64))
                    addresses.append(np.array([int(one, 16) for one in found[code]], np.uint64))
        place = np.concatenate(places)
        begin = np.zeros(len(batch) + 1, np.int64)
        np.cumsum(np.bincount(place, minlength=len(batch)), out=begin[1:])
        order = np.argsort(place, kind="stable")
        return cls(event, whole, np.concatenate(addresses)[order], begin)

    def of_rows(self, rows: slice) -> UInt64Array:
        """Return the addresses of consecutive rows."""
        return self.addresses[self.begin[rows.start] : self.begin[rows.stop]]


def is_address(batch: Batch, event: int, argument: str) -> bool:
    """Return whether an argument is a host address, which differs between runs."""
    declared = batch.table.declaration(event)
    return declared is not None and any(
        one.name == argument and one.kind is Kind.POINTER for one in declared.arguments
    )


class Correspondence:
    """Which number of one run stands for which of the other, in order of appearance.

    ``differ`` counts numbers that stand for another one than before.
    """

    _MOST = 1 << 20

    def __init__(self) -> None:
        self.differ = 0
        self._there: dict[int, int] = {}
        self._back: dict[int, int] = {}

    def take(self, one: NDArray[Any], two: NDArray[Any]) -> int | None:
        """Match the next numbers; return the place of the first that does not correspond."""
        one, two = one.astype(np.uint64), two.astype(np.uint64)
        distinct = np.unique(combined(one * _MIX, two), return_index=True)[1]
        pairs = list(zip(one[distinct].tolist(), two[distinct].tolist(), strict=True))
        there, back = self._there, self._back
        place = None
        if all(there.get(a, b) == b and back.get(b, a) == a for a, b in pairs) and len(
            pairs
        ) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
            there.update(pairs)
            back.update((b, a) for a, b in pairs)
        else:
            for at, (a, b) in enumerate(zip(one.tolist(), two.tolist(), strict=True)):
                if there.get(a, b) != b or back.get(b, a) != a:
                    self.differ += 1
                    place = at if place is None else place
                    back.pop(there.pop(a, b), None)
                    there.pop(back.pop(b, a), None)
                there[a], back[b] = b, a
        if len(there) > self._MOST:  # bounded memory: begin anew
            there.clear()
            back.clear()
        return place
