"""Encode columns as Perfetto track events: a kernel writes packets, each text is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Int64Array
from qtctl.writers.perfetto import kernel as perfetto

_FRAME = 40
"""Maximum size in bytes of an event's packet without the fields of its kind."""
_NUMBER = 12
"""Maximum size in bytes of an annotation's tag, length and number."""


class EventPackets:
    """The packets of ``rows`` track events, whose fields are appended kind by kind."""

    def __init__(self, rows: int) -> None:
        self._kind, self._place = np.empty(rows, np.int32), np.empty(rows, np.int64)
        self._plan: list[tuple[int, int, int, int]] = []
        self._bounds: list[int] = []
        self._texts = bytearray()
        self._edges: list[int] = []
        self._columns = [np.empty(0, np.uint64)]
        self._values = self._rows = 0
        self._room = _FRAME * rows  # upper bound in bytes

    def begin(self, rows: Int64Array) -> None:
        """Begin a kind of events, whose fields are appended next; ``rows`` are their places."""
        self._kind[rows], self._place[rows] = len(self._bounds), np.arange(len(rows))
        self._bounds.append(len(self._plan))
        self._rows = len(rows)

    def literal(self, fields: bytes) -> None:
        """Append the same fields to every event."""
        begin = self._text(fields)
        self._plan.append((perfetto.LITERAL, 0, begin, len(self._texts)))
        self._room += len(fields) * self._rows

    def choice(self, codes: NDArray[Any], fields: Sequence[bytes]) -> None:
        """Append fields[codes[i]] to event i."""
        sizes = np.array([len(one) for one in fields], np.int64)
        begin = self._text(b"".join(fields))
        self._column(perfetto.TEXT, codes.astype(np.uint64), len(self._edges), 0)
        self._edges += [begin, *(begin + np.cumsum(sizes)).tolist()]
        self._room += int(sizes[codes].sum())

    def numbers(self, values: NDArray[Any], before: bytes, before_negative: bytes) -> None:
        """Append a debug annotation: ``before`` (fields and the number's tag), then the number.

        Numbers are int64 or uint64. If bit 63 is set, ``before_negative`` is written for
        ``before``; both have the same size, below 100 bytes.
        """
        begin = self._text(before + before_negative)
        self._column(perfetto.NUMBER, values.view(np.uint64), begin, len(self._texts))
        self._room += (_NUMBER + len(before)) * self._rows

    def _text(self, text: bytes) -> int:
        begin = len(self._texts)
        self._texts += text
        return begin

    def _column(self, what: int, values: NDArray[np.uint64], begin: int, stop: int) -> None:
        self._plan.append((what, self._values, begin, stop))
        self._columns.append(values)
        self._values += len(values)

    def encode(self, time_ns: Int64Array, track: Int64Array) -> bytes:
        """Return a packet per row, each row being of one kind. Times below 0 become 0."""
        out = np.empty(self._room, np.uint8)
        begin = perfetto.write_events(
            np.array(self._plan, np.int64).reshape(-1).data,
            np.array([*self._bounds, len(self._plan)], np.int64).data,
            bytes(self._texts),
            np.array(self._edges, np.int64).data,
            np.concatenate(self._columns).data,
            self._kind.data,
            self._place.data,
            np.maximum(time_ns, 0).view(np.uint64).data,
            track.view(np.uint64).data,
            out.data,
        )
        return out[begin:].tobytes()


class UniqueTimes:
    """Makes the times of instants unique on their track: 1 ns apart where they are equal."""

    def __init__(self) -> None:
        self._last = self._shown = np.empty(0, np.int64)

    def times(self, track: Int64Array, time_ns: Int64Array) -> Int64Array:
        """Return the times of the next instants, adjusted; tracks are numbered from 0."""
        more = max(0, int(track.max(initial=-1)) + 1 - len(self._last))
        self._last = np.append(self._last, np.full(more, np.iinfo(np.int64).max))
        self._shown = np.append(self._shown, np.full(more, np.iinfo(np.int64).min))
        out = np.empty(len(track), np.int64)
        known = self._last.data, self._shown.data
        perfetto.spread(track.data, np.ascontiguousarray(time_ns).data, *known, out.data)
        return out


class Lanes:
    """Assigns overlapping slices of a group to different lanes."""

    def __init__(self) -> None:
        self._ended = np.empty((0, 1), np.int64)

    def assign(self, group: Int64Array, start_ns: Int64Array, end_ns: Int64Array) -> Int64Array:
        """Return the lane of each slice: the first one of its group that is free.

        Groups are numbered from 0. No slice may end before it starts. Few lanes are needed if the
        slices are sorted by their ends.
        """
        lane = np.empty(len(group), np.int64)
        self._grow(int(group.max(initial=-1)) + 1, 1)
        slices = group.data, start_ns.data, end_ns.data
        at = 0
        while True:
            width, ended = self._ended.shape[1], self._ended.reshape(-1).data
            at = perfetto.lay_lanes(*slices, width, ended, lane.data, at)
            if at == len(group):
                return lane
            self._grow(0, 2 * width)

    def _grow(self, groups: int, width: int) -> None:
        """Make room for more groups and lanes; new lanes are free."""
        old = self._ended
        groups, width = max(groups, old.shape[0]), max(width, old.shape[1])
        if (groups, width) != old.shape:
            self._ended = np.full((groups, width), np.iinfo(np.int64).min)
            self._ended[: old.shape[0], : old.shape[1]] = old
