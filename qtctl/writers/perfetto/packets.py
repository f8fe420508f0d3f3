"""Encode columns as Perfetto track events: a kernel writes packets, each text is encoded once.

``EventBlock`` collects the fields of events of one kind, except time and track; ``encode`` makes
the packets of all blocks, in row order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Int64Array
from qtctl.writers.perfetto import kernel as perfetto

_FRAME = 40
"""Maximum size in bytes of an event's packet without the fields of its block."""
_NUMBER = 12
"""Maximum size in bytes of an annotation's tag, length and number."""


class EventBlock:
    """Events of one kind; ``rows`` are their places among the events encoded together."""

    def __init__(self, rows: Int64Array) -> None:
        self.rows = rows
        self.room = _FRAME * len(rows)
        self.plan: list[tuple[int, int, int, int]] = []
        self.texts = b""
        self.edges: list[int] = []
        self.columns: list[NDArray[np.uint64]] = []

    def literal(self, fields: bytes) -> None:
        """Append the same fields to every event."""
        begin = self._text(fields)
        self.plan.append((perfetto.LITERAL, 0, begin, len(self.texts)))
        self.room += len(fields) * len(self.rows)

    def choice(self, codes: NDArray[Any], fields: Sequence[bytes]) -> None:
        """Append fields[codes[i]] to event i."""
        sizes = np.array([len(one) for one in fields], np.int64)
        begin = self._text(b"".join(fields))
        self._column(perfetto.TEXT, codes.astype(np.uint64), len(self.edges), 0)
        self.edges += [begin, *(begin + np.cumsum(sizes)).tolist()]
        self.room += int(sizes[codes].sum())

    def numbers(self, values: NDArray[Any], before: bytes, before_negative: bytes) -> None:
        """Append a debug annotation: ``before`` (fields and the number's tag), then the number.

        Numbers are int64 or uint64. If bit 63 is set, ``before_negative`` is written for
        ``before``; both have the same size, below 100 bytes.
        """
        begin = self._text(before + before_negative)
        self._column(perfetto.NUMBER, values.view(np.uint64), begin, len(self.texts))
        self.room += (_NUMBER + len(before)) * len(self.rows)

    def _text(self, text: bytes) -> int:
        begin = len(self.texts)
        self.texts += text
        return begin

    def _column(self, what: int, values: NDArray[np.uint64], begin: int, stop: int) -> None:
        self.plan.append((what, len(self.columns), begin, stop))
        self.columns.append(values)


def encode(blocks: Sequence[EventBlock], time_ns: Int64Array, track: Int64Array) -> bytes:
    """Return a packet per row; the blocks together hold each row once. Times below 0 become 0."""
    rows = len(time_ns)
    kind, place = np.empty(rows, np.int32), np.empty(rows, np.int64)
    plan: list[tuple[int, int, int, int]] = []
    bounds, edges, texts = [0], [np.empty(0, np.int64)], []
    columns = [np.empty(0, np.uint64)]
    text_at = edge_at = value_at = 0
    for number, block in enumerate(blocks):
        kind[block.rows], place[block.rows] = number, np.arange(len(block.rows))
        for what, column, begin, stop in block.plan:
            shift = edge_at if what == perfetto.TEXT else text_at
            at = value_at + column * len(block.rows)
            plan.append((what, at, begin + shift, stop + shift))
        bounds.append(len(plan))
        edges.append(np.array(block.edges, np.int64) + text_at)
        texts.append(block.texts)
        columns += block.columns
        text_at += len(block.texts)
        edge_at += len(block.edges)
        value_at += len(block.columns) * len(block.rows)
    out = np.empty(sum(block.room for block in blocks), np.uint8)
    begin = perfetto.write_events(
        np.array(plan, np.int64).reshape(-1).data,
        np.array(bounds, np.int64).data,
        b"".join(texts),
        np.concatenate(edges).data,
        np.concatenate(columns).data,
        kind.data,
        place.data,
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
        at = 0
        while True:
            ended = self._ended
            at = perfetto.lay_lanes(
                group.data,
                start_ns.data,
                end_ns.data,
                ended.shape[1],
                ended.reshape(-1).data,
                lane.data,
                at,
            )
            if at == len(group):
                return lane
            self._grow(0, 2 * ended.shape[1])

    def _grow(self, groups: int, width: int) -> None:
        """Make room for more groups and lanes; new lanes are free."""
        old = self._ended
        groups, width = max(groups, old.shape[0]), max(width, old.shape[1])
        if (groups, width) != old.shape:
            self._ended = np.full((groups, width), np.iinfo(np.int64).min)
            self._ended[: old.shape[0], : old.shape[1]] = old
