"""Write a CTF folder: ``metadata``, and one file per stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtctl.records.batch import Batch
from qtctl.records.items import Item
from qtctl.records.schema import to_object
from qtctl.writers.base import Source
from qtctl.writers.ctf.format import CtfTrace


def open_folder(create: Callable[[], Path], source: Source) -> CtfExport:
    """Return a writer of CTF 1.8 into a folder."""
    return CtfExport(create())


class CtfExport:
    """Writes CTF 1.8 into ``folder``, which exists and is empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trace = CtfTrace()

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        if isinstance(item, Batch):
            packet = self._trace.encode(item)
        else:
            packet = self._trace.encode_note(to_object(item))
        if packet is not None:
            # Opened for each packet: times that often go back make many streams.
            with (self._folder / f"stream_{packet.stream}").open("ab") as file:
                file.write(packet.data)

    def finish(self) -> None:
        """Write the metadata."""
        (self._folder / "metadata").write_text(self._trace.metadata(), encoding="utf-8")

    def close(self) -> None:
        """Do nothing: each file is closed after a packet."""
