"""Events of marks without a name: QEMU's device models in Rust write only the arguments.

Source: the ``rust`` format of scripts/tracetool of QEMU, 10.2 and 11.1. Such a text is taken for
the one event that is on and whose format it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable

_SHOWN = 5
_FIRST = 4
"""So many of the first bytes of a text decide which formats are tried."""


class Nameless:
    """Finds the events of marks without a name among ``names``, the events that are on.

    ``report`` is called with a sentence for each set of events that cannot be told apart.
    """

    def __init__(
        self, table: EventTable, names: Sequence[str], report: Callable[[str], None]
    ) -> None:
        self._table = table
        self._names = names
        self._begins: dict[int, bytes] | None = None
        self._report = report
        self._reported: set[tuple[int, ...]] = set()

    def name(
        self,
        data: bytes,
        event: NDArray[np.int32],
        begin: Int64Array,
        first: Int64Array,
        stop: Int64Array,
        own: BoolArray,
    ) -> None:
        """Set ``event`` and ``begin`` of those ``own`` rows without one that fit one event.

        The texts are data[first[i]:stop[i]].
        """
        rows = np.flatnonzero(own & (event < 0) & (stop > first))
        if not len(rows):
            return
        heads, place = np.unique(_heads(data, first[rows], stop[rows]), return_inverse=True)
        begins = self._candidates()
        fits = np.zeros((len(begins), len(rows)), np.bool_)
        for number, (one, begin_with) in enumerate(begins.items()):
            likely = np.array([head.startswith(begin_with) for head in heads.tolist()])
            tried = np.flatnonzero(likely[place])
            if len(tried):
                at = rows[tried]
                fits[number, tried] = self._table.read(data, one, first[at], stop[at])[1]
        events = np.array([*begins, -1], np.int32)
        count = fits.sum(axis=0)
        alone = count == 1
        if alone.any():
            event[rows[alone]] = events[fits[:, alone].argmax(axis=0)]
            begin[rows[alone]] = first[rows[alone]]
        for which in np.unique(fits[:, count > 1], axis=1).T:
            self._ambiguous(tuple(events[:-1][which].tolist()))

    def _candidates(self) -> dict[int, bytes]:
        """Return the events that can be told by their format, and the text each begins with."""
        if self._begins is None:
            table = self._table
            chosen = (table.indices[name] for name in self._names if name in table.indices)
            events = (event for event in chosen if table.inverts(event))
            self._begins = {event: table.begins(event)[:_FIRST] for event in events}
        return self._begins

    def _ambiguous(self, events: tuple[int, ...]) -> None:
        if events not in self._reported:
            self._reported.add(events)
            names = [self._table.names[event] for event in events]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            self._report(
                f"records without a name fit {', '.join(names[:_SHOWN])}{more} alike and stay text "
                "(--all shows them); follow one of these at a time"
            )


def _heads(data: bytes, first: Int64Array, stop: Int64Array) -> NDArray[np.bytes_]:
    """Return the first bytes of each text."""
    places = first[:, None] + np.arange(_FIRST)
    held = np.frombuffer(data, np.uint8)[np.minimum(places, len(data) - 1)]
    held[places >= stop[:, None]] = 0
    heads: NDArray[np.bytes_] = held.view(f"S{_FIRST}").reshape(-1)
    return heads
