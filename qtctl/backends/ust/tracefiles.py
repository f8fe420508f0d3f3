"""Source: the files that LTTng writes in turn for one processor, each read as it grows.

lttng-consumerd (2.13) writes ``CHANNEL_CPU_N`` up to a size, then unlinks and makes the next N
anew, modulo their number. One that is open can still be read then.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from qtctl.backends.ust.decoder import HEAD_LIMIT, CtfDecoder
from qtctl.backends.ust.program import REGISTERS

_State = tuple[int, int, int]


class TraceFiles:
    """The files ``PREFIX_0`` to ``PREFIX_(count - 1)`` of one stream; ``decoder`` gets them."""

    def __init__(self, prefix: Path, count: int, decoder: CtfDecoder) -> None:
        self.decoder = decoder
        self.dry = False
        """Whether all was read when it was read last."""
        self._prefix = prefix
        self._count = count
        self._fd = -1
        self._slot = self._first = -1
        self._offset = 0
        self._older: _State | None = None
        self._registers = np.zeros(REGISTERS, np.int64)

    def read(self, most: int) -> bytes:
        """Return the next bytes, at most ``most``; none if there are no more now."""
        while True:
            data = self._more(most)
            if not data and self._follows():
                data = self._more(most)  # what came before the next file was begun
                if not data:
                    self._open_next()
                    continue
            self.dry = not data
            return data

    def behind(self) -> int:
        """Return how many bytes there are that were not read."""
        if self._fd < 0:
            return 0
        size = max(0, os.fstat(self._fd).st_size - self._offset)
        if self._follows():
            size += sum(bytes_ for _, _, bytes_ in self._newer())
        return size

    def grew(self) -> bool:
        """Return whether there is something that was not read."""
        return self._fd < 0 or os.fstat(self._fd).st_size > self._offset or self._follows()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _more(self, most: int) -> bytes:
        data = os.pread(self._fd, most, self._offset) if self._fd >= 0 else b""
        self._offset += len(data)
        return data

    def _path(self, slot: int) -> str:
        return f"{self._prefix}_{slot}"

    def _follows(self) -> bool:
        """Return whether another file was begun since."""
        if self._fd < 0:
            return bool(self._newer())
        slot = (self._slot + 1) % self._count
        try:
            found = os.stat(self._path(slot))  # noqa: PTH116 - quick
        except OSError:
            return False
        state = found.st_ino, found.st_mtime_ns, found.st_size
        if state == self._older or self._count == 1:
            return False
        first = self._first_of(slot)
        if first is None or first > self._first:
            return first is not None
        self._older = state
        return False

    def _first_of(self, slot: int) -> int | None:
        """Return the number of the first packet in a file; None if there is none yet."""
        try:
            with open(self._path(slot), "rb") as file:  # noqa: PTH123 - quick
                start = file.read(HEAD_LIMIT)
            head = self.decoder.layout.read_head(start, 0, self._registers)
        except (OSError, ValueError):
            return None
        return None if head is None else head.sequence

    def _newer(self) -> list[tuple[int, int, int]]:
        """Return the files that follow the one that is read: first packet, number, size."""
        found = []
        for slot in range(self._count):
            first = self._first_of(slot)
            if first is not None and first > self._first:
                try:
                    size = os.stat(self._path(slot)).st_size  # noqa: PTH116
                except OSError:
                    continue
                found.append((first, slot, size))
        return sorted(found)

    def _open_next(self) -> None:
        """Open the oldest of the files that follow."""
        for first, slot, _ in self._newer():
            try:
                fd = os.open(self._path(slot), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            self.close()
            self._fd, self._slot, self._first, self._offset = fd, slot, first, 0
            self._older = None
            return
