"""Sources: files that another process appends to. They move bytes and know no format.

Waits with inotify(7), armed only when all was read, so that a flood costs its writer nothing and an
idle file costs nobody anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from asyncinotify import Inotify, Mask

from qtctl.backends.spool.spool import MIB, punch

CHUNK_BYTES = 2 * MIB
KEEP_BEHIND_BYTES = 8 * MIB
"""Bytes that a reader leaves allocated behind it, for another reader of the same spool."""
MAX_LAG_BYTES = 28 * MIB
"""How far a reader of a spool may fall behind before it counts lines instead of decoding them."""
BUSY_LAG_BYTES = 16 * MIB
"""The same for a reader whose output is busy: it will not catch up, and is slow to be run."""
HEAD_BYTES = MIB
"""Bytes of the begin of a spool of records that are kept: they hold the names of the events."""
_PAGE = 4096
_BEFORE_BYTES = 64
_NO_ROOM_BYTES = 1 << 20
_INOTIFY_BACKSTOP_S = 1.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes that were not delivered: ``lines`` of them, None where that is unknown."""

    lines: int | None


class GrowingFile:
    """Reads what is appended to ``path`` from ``offset`` on (default: its present end).

    ``spool``: the file is one of qtctl's, and bounded: bytes that were read are freed, and a reader
    that lags skips whole lines, which are counted. A file that somebody truncated or wrote anew is
    read from its begin; one whose writer goes on at its old place has a hole before that.
    """

    _head = 0
    """Bytes at the begin of a spool that are never freed."""
    _text = True
    """Whether the file holds lines, without a NUL."""

    def __init__(self, path: str | Path, *, offset: int | None = None, spool: bool = False) -> None:
        self._fd = os.open(path, (os.O_RDWR if spool else os.O_RDONLY) | os.O_CLOEXEC)
        self._spool = spool
        self._punched = self._head
        self._resync = False
        self._skipped: list[bytes | Skipped] = []
        self.offset = os.fstat(self._fd).st_size if offset is None else offset
        size = min(_BEFORE_BYTES, self.offset)
        self._before = os.pread(self._fd, size, self.offset - size)  # the last bytes that were read
        self._inotify = Inotify()
        self._path = Path(f"/proc/self/fd/{self._fd}")

    def read(self) -> list[bytes | Skipped]:
        """Return what was appended, at most 2 MiB, with skips at their place."""
        size = os.fstat(self._fd).st_size
        items, self._skipped = self._skipped, []
        if size < self.offset or self._written_anew():
            items.append(Skipped(None))
            self.offset, self._punched, self._before = 0, self._head, b""
        items += self._skip(size, MAX_LAG_BYTES)
        data = os.pread(self._fd, min(CHUNK_BYTES, size - self.offset), self.offset)
        self.offset += len(data)
        self._before = (self._before + data[-_BEFORE_BYTES:])[-_BEFORE_BYTES:]
        if self._text and not self._resync and data.startswith(b"\0"):  # the end of a hole
            items.append(Skipped(None))
            self._resync = True
        if self._resync and data:
            cut = data.find(b"\n") + 1
            self._resync = not cut
            data = data[cut:] if cut else b""
        if data:
            items.append(data)
        if self._spool:
            self._free()
        return items

    def keep_up(self) -> None:
        """Count, for the next :meth:`read`, what has fallen too far behind in a spool.

        For a reader that is busy: the keeper would free lines that nobody counted.
        """
        if self._spool:
            self._skipped += self._skip(os.fstat(self._fd).st_size, BUSY_LAG_BYTES)

    def _skip(self, size: int, allowed: int) -> list[bytes | Skipped]:
        """Skip a hole that somebody else punched, or lines that are too far behind to decode."""
        if self._skip_hole(size):
            self._resync = self._text
            return [Skipped(None)]
        if not self._spool or size - self.offset <= allowed:
            return []
        return self._count_lines_until(size - KEEP_BEHIND_BYTES)

    def _written_anew(self) -> bool:
        """Return whether other bytes stand before the offset than did; NULs are those of a hole."""
        size = len(self._before)
        now = os.pread(self._fd, size, self.offset - size)
        return not self._before.endswith(now.lstrip(b"\0"))

    def _skip_hole(self, size: int) -> bool:
        if size == self.offset:
            return False
        try:
            data_at = os.lseek(self._fd, self.offset, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            data_at = size
        in_hole = data_at > self.offset
        if in_hole:
            self.offset, self._before = data_at, b""
        return in_hole

    def _count_lines_until(self, target: int) -> list[bytes | Skipped]:
        """Deliver the line that was begun, then count whole lines up to ``target``."""
        head = b""
        lines = 0
        while self.offset < target:
            # In few, large steps: each has to win the interpreter's lock back from the output.
            size = max(CHUNK_BYTES, min(4 * CHUNK_BYTES, target - self.offset))
            data = os.pread(self._fd, size, self.offset)
            if not head:
                begun = data.find(b"\n") + 1
                head = data[:begun]
                lines -= 1
            last = data.rfind(b"\n") + 1
            if not last:
                break
            lines += data.count(b"\n", 0, last)
            self.offset, self._before = self.offset + last, b""
            self._free()
        if not head:
            return []
        if self._resync:  # the rest of a line whose begin is lost already
            self._resync = False
            return [Skipped(lines)]
        return [head, Skipped(lines)]

    def _free(self) -> None:
        end = (self.offset - KEEP_BEHIND_BYTES) & -_PAGE
        if end - self._punched >= CHUNK_BYTES:
            punch(self._fd, self._punched, end)
            self._punched = end

    def behind(self) -> int:
        """Return how many bytes are written and not read yet."""
        return max(0, os.fstat(self._fd).st_size - self.offset)

    def size(self) -> int:
        """Return the size of the file that is read, in bytes."""
        return os.fstat(self._fd).st_size

    def is_full(self, *, root: bool) -> bool:
        """Return whether the file system is all but full, for root or for others."""
        place = os.fstatvfs(self._fd)
        free = (place.f_bfree if root else place.f_bavail) * place.f_frsize
        return place.f_blocks > 0 and free < _NO_ROOM_BYTES

    def inode(self) -> tuple[int, int]:
        """Return the device and inode of the file that is read."""
        state = os.fstat(self._fd)
        return state.st_dev, state.st_ino

    async def wait(self, timeout_s: float) -> None:
        """Wait until there is something to read, for at most ``timeout_s``."""
        watch = self._inotify.add_watch(self._path, Mask.MODIFY | Mask.ONESHOT)
        if self.behind() or os.fstat(self._fd).st_size < self.offset:
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(watch)
            return
        with contextlib.suppress(TimeoutError):
            # inotify reports no writes on some network file systems.
            await asyncio.wait_for(self._inotify.get(), min(timeout_s, _INOTIFY_BACKSTOP_S))

    def close(self) -> None:
        """Close the file; the file itself stays as it is."""
        self._inotify.close()
        os.close(self._fd)


class GrowingRecords(GrowingFile):
    """Reads binary records in which the bytes do not show where one begins.

    Only the decoder can count records, so nothing is skipped here except holes.
    """

    _head = HEAD_BYTES
    _text = False

    def head(self) -> bytes:
        """Return the file's first bytes, at most 1 MiB."""
        return os.pread(self._fd, HEAD_BYTES, 0)

    def keep_up(self) -> None:
        """Do nothing: only the decoder can count records."""

    def _skip(self, size: int, allowed: int) -> list[bytes | Skipped]:
        return [Skipped(None)] if self._skip_hole(size) else []
