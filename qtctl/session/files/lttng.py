"""A folder that LTTng wrote: read through babeltrace2, as the live backend does."""

from __future__ import annotations

import re
import time
from itertools import islice
from pathlib import Path

from qtctl.backends import lttng
from qtctl.errors import QtctlError
from qtctl.events.declarations import Declarations
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.lttngtext import Discarded, LttngDecoder
from qtctl.records.table import EventTable
from qtctl.session.feeds.base import Item, Loss
from qtctl.session.files.base import CHUNK_BYTES
from qtctl.session.files.declared import best_installed, read_declarations

_EVENT = re.compile(rb'name = "qemu:(\w+)"')
_MOST = 1000
_METADATA_BYTES = 1 << 26


class LttngFolder:
    """The QEMU events of the LTTng traces below a folder.

    Declarations are those of ``events_all``, else the installed QEMU's that fit best.

    Raises:
        QtctlError: there is no trace below it, or none of QEMU.
        Unsupported: babeltrace2 is missing.
    """

    def __init__(self, path: Path, events_all: Path | None) -> None:
        self.path = path
        self.notes: list[str] = []
        self.taken = self.size = 0
        names = _names(path)
        declared = self._declarations(names, events_all).by_name
        self.table = EventTable.build([*names, *declared], declared)
        self._decoder = LttngDecoder(self.table)
        self._said = ""
        self._ended = False
        self._reader = lttng.show(path)

    def _declarations(self, names: list[str], events_all: Path | None) -> Declarations:
        if events_all is not None:
            return read_declarations(events_all)
        best, score, path = best_installed(lambda all_: sum(name in all_.by_name for name in names))
        where = (
            f"{score} of them declared in {path} (a guess" if path else "none of them declared ("
        )
        self.notes.append(f"LTTng trace, {len(names)} events, {where}; else: --events-all FILE)")
        return best

    def read(self) -> list[Item] | None:
        """Read on; return what came of it, None at the end."""
        if self._ended:
            return None
        assert self._reader.stdout is not None
        data = self._reader.stdout.read(CHUNK_BYTES)
        self.taken += len(data)
        self._ended = not data
        now_ns = time.time_ns()
        decoder = self._decoder
        found = decoder.feed(data, now_ns=now_ns) if data else decoder.flush(now_ns=now_ns)
        return [self._item(item) for item in found]

    def _item(self, item: Batch | Discarded) -> Item:
        if isinstance(item, Discarded):
            return Loss(Backend.UST, item.count, item.time_ns)
        texts = item.groups().get(-1)
        if texts is not None:
            self._said = item.text(int(texts[-1]))
        return item

    @property
    def problem(self) -> str:
        """What of it could not be read."""
        code = self._reader.wait() if self._ended else 0
        return f"babeltrace2 cannot read all of {self.path}: {self._said[:500]}" if code else ""

    def close(self) -> None:
        """End babeltrace2."""
        self._reader.kill()
        self._reader.wait()
        assert self._reader.stdout is not None
        self._reader.stdout.close()


def _names(path: Path) -> list[str]:
    """Return the names of QEMU's events that the metadata below a folder declare."""
    found = list(islice(path.rglob("metadata"), _MOST))
    if not found:
        raise QtctlError(
            f"{path} is a folder without an LTTng trace",
            hint="the folder that `lttng create --output` made, or a file",
        )
    names: dict[str, None] = {}
    for file in found:
        with file.open("rb") as opened:
            for match in _EVENT.finditer(opened.read(_METADATA_BYTES)):
                names[match[1].decode()] = None
    if not names:
        raise QtctlError(f"the LTTng trace in {path} has no event of QEMU")
    return list(names)
