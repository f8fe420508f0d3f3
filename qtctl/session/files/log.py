"""Log text that was saved to a file, as QEMU wrote it or with other words before each line."""

from __future__ import annotations

from pathlib import Path

from qtctl.errors import QtctlError
from qtctl.events.declarations import Declarations
from qtctl.records.batch import Batch
from qtctl.records.logtext import LogDecoder
from qtctl.records.prefixes import PrefixedDecoder, words_before
from qtctl.records.table import EventTable
from qtctl.session.feeds.base import Item
from qtctl.session.files.base import SAMPLE_BYTES, PlainFile
from qtctl.session.files.declared import best_installed, read_declarations
from qtctl.text.style import counted

_SNIFF_BYTES = 4096
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


class LogFile:
    """Log text; its declarations are those of ``events_all``, else those that fit best.

    Raises:
        QtctlError: it is empty, no text, or no event in it is known.
    """

    def __init__(self, file: PlainFile, events_all: Path | None) -> None:
        head = file.at(0, SAMPLE_BYTES)
        _check_text(head, str(file.path))
        self.notes: list[str] = []
        self._file = file
        declared = self._declarations(head, events_all).by_name
        self.table = EventTable.build(None, declared)
        words = words_before(self.table, head)
        if words:
            self.notes.append(f"log text with {counted(words, 'word')} before QEMU's own lines")
        self._decoder: LogDecoder | PrefixedDecoder = LogDecoder(self.table)
        if words:
            self._decoder = PrefixedDecoder(self.table, words)
        self._ended = False

    def _declarations(self, sample: bytes, events_all: Path | None) -> Declarations:
        if events_all is not None:
            return read_declarations(events_all)
        best, _, path = best_installed(lambda found: _readable(found, sample))
        if path is None:
            raise QtctlError(
                f"no record in the first {len(sample)} bytes of {self._file.path}: it is neither "
                "a recording, a simple trace nor log text with events that are known here",
                hint="--events-all FILE, the trace-events-all of the QEMU that wrote it",
            )
        self.notes.append(f"log text, events declared in {path} (a guess; else: --events-all FILE)")
        return best

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._file.taken

    def read(self) -> list[Item] | None:
        """Read on; return what came of it, None at the end."""
        if self._ended:
            return None
        data, now_ns = self._file.more(), self._file.modified_ns
        self._ended = not data
        decoder = self._decoder
        found = decoder.feed(data, now_ns=now_ns) if data else decoder.flush(now_ns=now_ns)
        return [found] if isinstance(found, Batch) else list(found)

    @property
    def problem(self) -> str:
        """What of it could not be read."""
        return self._file.fault

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _check_text(head: bytes, where: str) -> None:
    """Refuse what cannot be text.

    Raises:
        QtctlError: it is empty, packed, or something else.
    """
    if not head:
        raise QtctlError(f"{where} is empty")
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed:
        raise QtctlError(f"{where} is packed with {packed}", hint="unpack it first")
    if b"\0" in head[:_SNIFF_BYTES]:
        raise QtctlError(
            f"{where} is neither a recording, a file of QEMU's simple backend nor log text",
            hint="qtctl replay --help",
        )


def _readable(declared: Declarations, sample: bytes) -> int:
    """Count the lines of a sample that are events with the arguments that are declared."""
    table = EventTable.build(None, declared.by_name)
    decoder = PrefixedDecoder(table, words_before(table, sample))
    batches = [*decoder.feed(sample, now_ns=0), *decoder.flush(now_ns=0)]
    return sum(
        int(batch.arguments(event).ok.sum())
        for batch in batches
        for event in batch.groups()
        if event >= 0
    )
