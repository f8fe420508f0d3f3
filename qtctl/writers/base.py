"""The interface of an export format. Its row in ``table.py`` selects what its module defines.

- ``open_lines(source)`` returns a :class:`LineExport`: lines of text.
- ``open_file(create, source)`` returns an :class:`Export` that writes to the binary file which
  ``create()`` opens, and closes it.
- ``open_folder(create, source)`` returns an :class:`Export` that writes into the empty folder whose
  path ``create()`` returns.
- ``open_endpoint(endpoint, source)`` returns an :class:`Export` that sends to a receiver, and whose
  ``stop()`` makes writing end soon.

Those of files and folders raise a UsageError, before they call ``create``, if they cannot export
``source``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item

EventPair = tuple[str, str, tuple[str, ...] | None]
"""START event, END event, and the names of the arguments that match them (None: to be inferred)."""


class Source(NamedTuple):
    """The data to export: the ``picked`` events of ``table``; ``pairs`` are exported as slices."""

    table: EventTable
    picked: Sequence[str]
    pairs: Sequence[EventPair] = ()


class LineExport(Protocol):
    """Formats items as lines of text; they may be printed while the source is still read."""

    def lines(self, item: Item, records: int) -> Iterable[str]:
        """Return the lines of an item; of a batch, only its first ``records`` records.

        :class:`~qtctl.text.encoded.EncodedLines` are the quickest to print.
        """

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the lines after the last item."""


class Export(Protocol):
    """Writes items to a file or folder, in order. All methods block on I/O.

    Raises:
        OSError: a write failed (disk full).
    """

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""

    def finish(self) -> None:
        """Write the rest after the last item: buffered records, metadata."""

    def close(self) -> None:
        """Close open files, finished or not."""
