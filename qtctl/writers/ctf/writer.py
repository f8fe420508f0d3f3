"""Writing the Common Trace Format: a folder with ``metadata`` and one file a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtctl.records.batch import Batch
from qtctl.records.items import Item
from qtctl.records.notes import to_object
from qtctl.writers.base import Source
from qtctl.writers.ctf.format import CtfTrace, Packet

__all__ = ["CtfExport", "open_folder"]


def open_folder(create: Callable[[], Path], source: Source) -> CtfExport:
    """Return a writer of CTF 1.8 into a folder."""
    return CtfExport(create())


class CtfExport:
    """Writes CTF 1.8 into an existing, empty folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trace = CtfTrace()

    def take(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        packet = (
            self._trace.take(item) if isinstance(item, Batch) else self._trace.note(to_object(item))
        )
        if packet is not None:
            self._write(packet)

    def _write(self, packet: Packet) -> None:
        # Opened for each packet: times that often step back make many streams.
        with (self._folder / f"stream_{packet.lane}").open("ab") as file:
            file.write(packet.data)

    def finish(self) -> None:
        """Write the metadata."""
        (self._folder / "metadata").write_text(self._trace.metadata(), encoding="utf-8")

    def close(self) -> None:
        """Do nothing: no file stays open."""
