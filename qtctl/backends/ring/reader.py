"""Source and order: the raw buffers of a tracefs instance, one for each processor, by time.

Source: ``tracing_buffers_read`` in kernel/trace/trace.c of Linux, 6.1 to 6.18: a read of at least a
page returns one, taken out of the buffer whole, or the records that a page has so far.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from qtctl.backends.base import Clocks, Decoder
from qtctl.backends.ring.ordering import Ordering
from qtctl.records.batch import Batch
from qtctl.records.items import Items

_CHUNK_BYTES = 1 << 20
"""Most that is read of one processor at once."""
_COMMIT_NS = 100_000
"""A record has its time a little before it is in the buffer."""


class _Cpu:
    """The buffer of one processor; ``last_ns``: no older record comes of it."""

    def __init__(self, path: Path, decoder: Decoder) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.decoder = decoder
        self.dry = False
        self.last_ns = 0

    def read(self, page_bytes: int, most: int) -> bytes:
        """Return the pages that are there, at most ``most``; ``dry`` is set if that was all."""
        pages: list[bytes] = []
        self.dry = False
        while len(pages) < most and not self.dry:
            page = b""
            with contextlib.suppress(BlockingIOError):
                page = os.read(self.fd, page_bytes)
            self.dry = not page
            pages.append(page)
        return b"".join(pages)


class RingReader:
    """Reads all buffers below ``folder``; ``decoder`` makes one for each.

    Raises:
        OSError: a buffer cannot be opened.
    """

    def __init__(self, folder: Path, page_bytes: int, decoder: Callable[[], Decoder]) -> None:
        self.folder = folder
        self.taken = 0
        self.dry = False
        self.until_ns: int | None = None
        """No record from before this time will come any more."""
        self._page_bytes = page_bytes
        self._ordering = Ordering()
        self._ready = select.epoll()
        self._cpus: list[_Cpu] = []
        try:
            for path in sorted(folder.glob("per_cpu/cpu*/trace_pipe_raw")):
                cpu = _Cpu(path, decoder())
                self._cpus.append(cpu)
                self._ready.register(cpu.fd, select.EPOLLIN)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that can be read once a buffer has records; -1 once closed."""
        return -1 if self._ready.closed else self._ready.fileno()

    @property
    def holds(self) -> bool:
        """Whether records were read that :meth:`read` has not returned yet."""
        return bool(self._ordering)

    def read(self, offset_ns: int) -> Items:
        """Return the records since the last call that no older one can follow, by time.

        ``offset_ns`` is Unix time minus the buffers' clock. ``dry`` is set if all are empty.
        """
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + offset_ns - _COMMIT_NS
        clocks = Clocks(time.time_ns(), offset_ns)
        for cpu in self._cpus:
            data = cpu.read(self._page_bytes, max(1, _CHUNK_BYTES // self._page_bytes))
            self.taken += len(data)
            items = cpu.decoder.feed(data, clocks) if data else []
            times = [int(item.time_ns[-1]) for item in items if isinstance(item, Batch)]
            cpu.last_ns = now_ns if cpu.dry else max([cpu.last_ns, *times])
            self._ordering.add(items)
        self.dry = all(cpu.dry for cpu in self._cpus)
        self.until_ns = min((cpu.last_ns for cpu in self._cpus), default=None)
        return self._ordering.take(self.until_ns)

    def rest(self, offset_ns: int) -> Items:
        """Return what was read and held back."""
        clocks = Clocks(time.time_ns(), offset_ns)
        for cpu in self._cpus:
            self._ordering.add(cpu.decoder.flush(clocks))
        return self._ordering.take()

    def close(self) -> None:
        """Close the buffers; the instance cannot be removed before."""
        for cpu in self._cpus:
            os.close(cpu.fd)
        self._cpus = []
        self._ready.close()
