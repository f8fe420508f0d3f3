"""The interfaces of export formats: of those that make lines, a file or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item

__all__ = [
    "Export",
    "FileFormat",
    "FolderFormat",
    "LineExport",
    "LineFormat",
    "Pairing",
    "Source",
]

Pairing = tuple[str, str, tuple[str, ...] | None]
"""A START and an END event, and the arguments equal in both (None: found automatically)."""


class Source(NamedTuple):
    """The ``picked`` events of ``table`` to export; ``pairs`` become slices."""

    table: EventTable
    picked: Sequence[str]
    pairs: Sequence[Pairing] = ()


class LineExport(Protocol):
    """Formats items as lines of text, which may go to stdout while the file is read."""

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Yield the lines of an item; of a batch, those of its first ``records``."""

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the lines at the end."""


class Export(Protocol):
    """Writes items to a file or folder, in order. Every call blocks for as long as it writes.

    Raises:
        OSError: it cannot be written (disk full).
    """

    def take(self, item: Item) -> None:
        """Write the next batch, loss or note."""

    def finish(self) -> None:
        """Write what comes at the end."""

    def close(self) -> None:
        """Close what is open, whether it is finished or not."""


class LineFormat(Protocol):
    """The module of a format of lines."""

    def open_lines(self, source: Source) -> LineExport:
        """Return a formatter for the items of a source."""


class FileFormat(Protocol):
    """The module of a format of one file."""

    def open_file(self, create: Callable[[], IO[bytes]], source: Source) -> Export:
        """Return a writer to the file that ``create`` returns; the writer closes it.

        The source is checked before the file is created.

        Raises:
            UsageError: the source cannot be exported so.
        """


class FolderFormat(Protocol):
    """The module of a format of a folder."""

    def open_folder(self, create: Callable[[], Path], source: Source) -> Export:
        """Return a writer to the empty folder that ``create`` returns.

        The source is checked before the folder is created.

        Raises:
            UsageError: the source cannot be exported so.
        """
