"""Track events of Perfetto from columns: a kernel writes the packets, texts are made ready once.

``Events`` says what events of one kind consist of beside their time and track; ``write`` makes
their packets, in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Int64Array
from qtctl.writers.perfetto import kernel as perfetto

__all__ = ["Events", "Lanes", "Spread", "write"]

_FRAME = 40
"""Bytes around an event's own fields at most: tags, numbers, lengths, what is fixed."""
_NUMBER = 12
"""Bytes of an annotation's tag, length and number at most."""


class Events:
    """Events of one kind, in ``rows`` of those that are written together."""

    def __init__(self, rows: Int64Array) -> None:
        self.rows = rows
        self.room = _FRAME * len(rows)
        self.plan: list[tuple[int, int, int, int]] = []
        self.texts = b""
        self.edges: list[int] = []
        self.columns: list[NDArray[np.uint64]] = []

    def literal(self, fields: bytes) -> None:
        """Put the same fields into every event."""
        begin = self._text(fields)
        self.plan.append((perfetto.LITERAL, 0, begin, len(self.texts)))
        self.room += len(fields) * len(self.rows)

    def choice(self, codes: NDArray[Any], fields: Sequence[bytes]) -> None:
        """Put fields[codes[i]] into event i."""
        sizes = np.array([len(one) for one in fields], np.int64)
        begin = self._text(b"".join(fields))
        self._column(perfetto.TEXT, codes.astype(np.uint64), len(self.edges), 0)
        self.edges += [begin, *(begin + np.cumsum(sizes)).tolist()]
        self.room += int(sizes[codes].sum())

    def numbers(self, values: NDArray[Any], before: bytes, before_negative: bytes) -> None:
        """Put a debug annotation: the number (int64 or uint64) and the fields and tag before it.

        A number with bit 63 has ``before_negative``, which is of the same size, below 100 bytes.
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


def write(kinds: Sequence[Events], time_ns: Int64Array, track: Int64Array) -> bytes:
    """Return the packets of events that have every row between them; times below 0 become 0."""
    rows = len(time_ns)
    kind, place = np.empty(rows, np.int32), np.empty(rows, np.int64)
    plan: list[tuple[int, int, int, int]] = []
    bounds, edges, texts = [0], [np.empty(0, np.int64)], []
    columns = [np.empty(0, np.uint64)]
    text_at = edge_at = value_at = 0
    for number, events in enumerate(kinds):
        kind[events.rows], place[events.rows] = number, np.arange(len(events.rows))
        for what, column, begin, stop in events.plan:
            shift = edge_at if what == perfetto.TEXT else text_at
            at = value_at + column * len(events.rows)
            plan.append((what, at, begin + shift, stop + shift))
        bounds.append(len(plan))
        edges.append(np.array(events.edges, np.int64) + text_at)
        texts.append(events.texts)
        columns += events.columns
        text_at += len(events.texts)
        edge_at += len(events.edges)
        value_at += len(events.columns) * len(events.rows)
    out = np.empty(sum(events.room for events in kinds), np.uint8)
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


class Spread:
    """Keeps instants of one track apart: those of one time get 1 ns more each."""

    def __init__(self) -> None:
        self._last = self._shown = np.empty(0, np.int64)

    def times(self, track: Int64Array, time_ns: Int64Array) -> Int64Array:
        """Return the times of the next instants; tracks are numbered from 0."""
        more = max(0, int(track.max(initial=-1)) + 1 - len(self._last))
        self._last = np.append(self._last, np.full(more, np.iinfo(np.int64).max))
        self._shown = np.append(self._shown, np.full(more, np.iinfo(np.int64).min))
        out = np.empty(len(track), np.int64)
        known = self._last.data, self._shown.data
        perfetto.spread(track.data, np.ascontiguousarray(time_ns).data, *known, out.data)
        return out


class Lanes:
    """Places slices that overlap side by side: when the last one on each lane of a group ended."""

    def __init__(self) -> None:
        self._ended = np.empty((0, 1), np.int64)

    def lay(self, group: Int64Array, start_ns: Int64Array, end_ns: Int64Array) -> Int64Array:
        """Return a lane for each slice, which are taken in this order; none ends before it starts.

        Groups, numbered from 0, have lanes of their own, which are few where slices come in the
        order of their ends.
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
        """Make room; a lane that was not there was free since ever."""
        old = self._ended
        groups, width = max(groups, old.shape[0]), max(width, old.shape[1])
        if (groups, width) != old.shape:
            self._ended = np.full((groups, width), np.iinfo(np.int64).min)
            self._ended[: old.shape[0], : old.shape[1]] = old
