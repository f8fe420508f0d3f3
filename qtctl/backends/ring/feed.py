"""What feeds share that read the raw buffers of a tracefs instance."""

from __future__ import annotations

import asyncio
import contextlib
import time

from qtctl.backends.child_pipe import wait_readable
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.reader import RingReader
from qtctl.backends.unix_time import shared_offset
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

_HELD_S = 0.001
_SHARED_WAIT_S = 0.05
"""The shared buffer may wake its reader only once it is half full."""


class RingFeed:
    """Reads the records of an instance; ``private``: it is this feed's, and stopped at the end."""

    def __init__(
        self, reader: RingReader, source: str, backend: Backend, *, private: bool = True
    ) -> None:
        self.source = source
        self.reader = reader
        self._backend = backend
        self._private = private
        self._offset = shared_offset()
        self._settling = self._settled = False
        self._behind = 0
        self._overwritten: int | None = None
        self._dropped = self._count_dropped()

    @property
    def error_ns(self) -> int:
        """By how much the times may differ from Unix time, all alike."""
        return self._offset.error_ns

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self.reader.taken

    def behind(self) -> int:
        """Return about how many bytes waited or were overwritten when :meth:`keep_up` looked."""
        return self._behind

    def read(self) -> Items:
        """Decode what came since the last call. Blocks shortly: call it in a thread."""
        settling = self._settling
        items = self._account(self.reader.read(self._offset.ns()))
        self._behind, self._overwritten = 0, None
        self._settled = settling and self.reader.dry
        return items

    def keep_up(self) -> None:
        """Measure how much waits; the kernel counts what it overwrites."""
        size, entries, overrun = tracefs.stats(self.reader.folder, "bytes", "entries", "overrun")
        if self._overwritten is None:
            self._overwritten = overrun
        self._behind = size + (overrun - self._overwritten) * size // max(1, entries)

    async def wait(self, timeout_s: float) -> Items:
        """Wait until the kernel has a record, for at most ``timeout_s``."""
        if self.reader.holds:
            timeout_s = min(timeout_s, _HELD_S)
        if self.reader.dry:
            limit_s = timeout_s if self._private else min(timeout_s, _SHARED_WAIT_S)
            await wait_readable(self.reader.fileno(), limit_s)
        return []

    async def settle(self) -> None:
        """Stop recording; what is in the buffers can still be read."""
        if self._private:
            await asyncio.to_thread(tracefs.stop_recording, self.reader.folder)
        self._settling = True

    def settled(self) -> bool:
        """Return whether the buffers have been read empty since."""
        return self._settled

    def finish(self) -> Items:
        """Return what was held back, and what the kernel dropped without a mark."""
        items = self._account(self.reader.rest(self._offset.ns()))
        more = self.dropped()
        return [*items, Loss(self._backend, more, time.time_ns())] if more > 0 else items

    def _account(self, items: Items) -> Items:
        """Note what was read; return it."""
        return items

    def dropped(self) -> int:
        """Return how many records the kernel dropped without a mark."""
        return self._count_dropped() - self._dropped

    def _count_dropped(self) -> int:
        return sum(tracefs.stats(self.reader.folder, "commit overrun", "dropped events"))

    async def close(self) -> None:
        """Close the buffers."""
        with contextlib.suppress(OSError):
            self.reader.close()
