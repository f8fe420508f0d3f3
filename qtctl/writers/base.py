"""The interface of an export format: lines of text, one file, or a folder.

The module of a format defines ``open_lines``, ``open_file`` or ``open_folder``; its row in
``table.py`` selects which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

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

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Yield the lines of an item; of a batch, only its first ``records`` records."""

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


class LineFormat(Protocol):
    """A module whose format is lines."""

    def open_lines(self, source: Source) -> LineExport:
        """Return a formatter for the items of ``source``."""


class FileFormat(Protocol):
    """A module whose format is one file."""

    def open_file(self, create: Callable[[], IO[bytes]], source: Source) -> Export:
        """Check the source, then call ``create``; return a writer to the file, which it closes.

        Raises:
            UsageError: this format cannot export ``source``.
        """


class FolderFormat(Protocol):
    """A module whose format is a folder."""

    def open_folder(self, create: Callable[[], Path], source: Source) -> Export:
        """Check the source, then call ``create``; return a writer into the empty folder.

        Raises:
            UsageError: this format cannot export ``source``.
        """
