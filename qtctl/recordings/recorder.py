"""Writing the items of a stream as chunks, to a new file or to a ring in memory."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qtctl.errors import QtctlError
from qtctl.model import Declaration
from qtctl.recordings.chunks import Chunk, ChunkKind, header, trailer
from qtctl.recordings.store import CHUNK_BYTES, DataMaker, NameBook
from qtctl.records import schema
from qtctl.records.counts import Counts
from qtctl.records.items import Item

_CHUNKS = 16
"""In how many parts at least a ring is kept, of which the oldest is given up for a new one."""
_RING_BYTES = 256 << 20
"""Most bytes of a ring that is limited by time."""
_FLUSH_S = 1.0
"""How long a record may wait to be written; a killed qtctl loses as much."""


class RecordingWriter:
    """A recording that is being written; on disk it is always whole up to its last chunk.

    ``fd`` is open for writing a file that is empty; :meth:`close` closes it. ``rows`` and ``size``
    (bytes) are those written; ``failed``: no more can be written.

    Raises:
        QtctlError: the file cannot be written, here and in the methods; its contents stay.
    """

    def __init__(self, path: Path, fd: int, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.size = self.rows = 0
        self.failed = False
        self._fd = fd
        self._indexed: list[int] = []
        self._append(header())
        self.put(Chunk.of(ChunkKind.FACTS, dict(facts)))

    def put(self, chunk: Chunk) -> None:
        """Append a chunk."""
        at = self.size
        self._append(chunk.data)
        self.rows += chunk.rows
        if chunk.kind in (ChunkKind.FACTS, ChunkKind.NAMES):
            self._indexed.append(at)

    def end(self, counts: Counts) -> None:
        """Append the sums and the index: the recording is complete."""
        sums = {"chunks": self._indexed, "summary": schema.summary(counts)}
        end = Chunk.of(ChunkKind.END, sums)
        self._append(end.data + trailer(end))

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self.failed = True
            with contextlib.suppress(OSError):  # a device has no length
                os.ftruncate(self._fd, self.size)
            raise QtctlError(
                f"cannot write {self.path}: {error.strerror}; "
                f"it holds the {self.rows} records that were written before",
                hint=f"qtctl replay {self.path}",
            ) from error
        self.size += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Recorder(ABC):
    """Makes chunks of items. Its methods block; call them from any thread.

    ``events`` are those that may occur, with their declarations; a recording holds also those that
    did not occur.
    """

    def __init__(
        self,
        events: Iterable[str],
        declared: Mapping[str, Declaration],
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._names = NameBook()
        for name in events:
            self._names.enter(name, declared.get(name))
        self._maker = DataMaker(self._names, chunk_bytes)
        self._lock = threading.Lock()
        self._since = 0.0

    def add(self, item: Item) -> None:
        """Add an item of a stream.

        Raises:
            QtctlError: it cannot be written; see :class:`RecordingWriter`.
        """
        with self._lock:
            for part in self._maker.parts(item):
                if self._maker.empty:
                    self._since = time.monotonic()
                self._maker.add(part)
                if self._maker.full or time.monotonic() - self._since >= _FLUSH_S:
                    self._flush()

    def flush(self) -> None:
        """Make a chunk of the items that wait. Raises as :meth:`add`."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if not self._maker.empty:
            self._keep(self._maker.chunk())

    @abstractmethod
    def _keep(self, chunk: Chunk) -> None: ...


class FileRecorder(Recorder):
    """Writes items to one file as they come."""

    def __init__(
        self, writer: RecordingWriter, events: Iterable[str], declared: Mapping[str, Declaration]
    ) -> None:
        super().__init__(events, declared)
        self._writer = writer
        self._put_names()

    def _put_names(self) -> None:
        for names in self._names.news():
            self._writer.put(names)

    def _keep(self, chunk: Chunk) -> None:
        self._put_names()
        self._writer.put(chunk)

    def end(self, counts: Counts) -> None:
        """Write the items that wait, the sums and the index. Raises as :meth:`add`."""
        with self._lock:
            self._flush()
            self._writer.end(counts)


class RingRecorder(Recorder):
    """Keeps the last chunks in memory: at most ``limit_bytes``, and of ``limit_s`` seconds.

    ``rows`` and ``size`` (bytes) are those it holds now.
    """

    def __init__(
        self,
        events: Iterable[str],
        declared: Mapping[str, Declaration],
        *,
        limit_bytes: int | None = None,
        limit_s: float | None = None,
    ) -> None:
        self._limit_bytes = _RING_BYTES if limit_bytes is None else limit_bytes
        super().__init__(events, declared, min(CHUNK_BYTES, self._limit_bytes // _CHUNKS))
        self._limit_s = limit_s
        self._chunks: deque[tuple[float, Chunk]] = deque()
        self.rows = self.size = 0

    def _keep(self, chunk: Chunk) -> None:
        self._chunks.append((time.monotonic(), chunk))
        self.rows += chunk.rows
        self.size += len(chunk.data)
        while len(self._chunks) > 1 and self._over(self._chunks[0][0]):
            _, oldest = self._chunks.popleft()
            self.rows -= oldest.rows
            self.size -= len(oldest.data)

    def _over(self, oldest: float) -> bool:
        if self.size > self._limit_bytes:
            return True
        return self._limit_s is not None and time.monotonic() - oldest > self._limit_s

    def dump(self, writer: RecordingWriter) -> None:
        """Write the items held and drop them: the next dump begins where this one ends.

        Raises:
            QtctlError: it cannot be written; the items are kept.
        """
        with self._lock:
            self._flush()
            writer.put(self._names.all())
            for _, chunk in self._chunks:
                writer.put(chunk)
            writer.end(Counts(read=self.rows, shown=self.rows))
            self._chunks.clear()
            self.rows = self.size = 0
