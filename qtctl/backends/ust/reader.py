"""Source and order: what LTTng writes of a session while it runs, of all processors by time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from asyncinotify import Inotify, Mask

from qtctl.backends.base import Clocks
from qtctl.backends.ring.ordering import Ordering
from qtctl.backends.ust.decoder import CtfDecoder
from qtctl.backends.ust.layout import TraceLayout
from qtctl.backends.ust.metadata import parse_metadata
from qtctl.backends.ust.tracefiles import TraceFiles
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss

_CHUNK_BYTES = 1 << 20
_HOLD_NS = 45_000_000
"""How long a record is held, as an older one of another processor may still be written."""
_LONGEST_HOLD_NS = 10**9
_LOOK_S = 0.02
_BACKSTOP_S = 1.0
_PATIENCE_S = 2.0
"""How long a packet waits for metadata with its events."""


class _SessionTrace:
    """One trace of the session: the guest's user and word size have one each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout: TraceLayout | None = None
        self.streams: dict[str, TraceFiles] = {}
        self._sizes = (0, 0)
        """Of the metadata: when they were parsed, and when they were looked at last."""

    def reload(self, table: EventTable) -> bool:
        """Parse the metadata if there are more and no more come at the moment."""
        with contextlib.suppress(OSError):
            parsed, seen = self._sizes
            size = (self.folder / "metadata").stat().st_size
            self._sizes = parsed, size
            if size == parsed or size != seen:
                return False
            self._sizes = size, size
            with contextlib.suppress(ValueError):  # cut off: the rest comes
                data = (self.folder / "metadata").read_bytes()
                self.layout = TraceLayout(parse_metadata(data), table)
                return True
        return False

    def now_ns(self) -> int:
        """Return Unix time by the clock of the records."""
        clock = self.layout.trace.clocks.get("monotonic") if self.layout else None
        if clock is None:
            return time.time_ns()
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) + clock.offset_ns


class SessionReader:
    """Reads the traces below ``folder``, of files ``CHANNEL_CPU_N`` with N below ``count``.

    Of a stream of which more than ``keep_bytes`` were not read, what is in the way is counted and
    dropped: LTTng would overwrite it.
    """

    def __init__(
        self, folder: Path, channel: str, count: int, keep_bytes: int, table: EventTable, pid: int
    ) -> None:
        self.taken = 0
        self.dry = False
        self.undeclared = 0
        """Packets with events that the metadata never declared."""
        self._folder = folder
        self._name = re.compile(rf"({re.escape(channel)}_\d+)_\d+")
        self._count = count
        self._keep_bytes = keep_bytes
        self._table = table
        self._pid = pid
        self._traces: dict[Path, _SessionTrace] = {}
        self._ordering = Ordering()
        self._hold_ns = _HOLD_NS
        self._looked_s = self._waits_since_s = 0.0
        self._inotify = Inotify()

    @property
    def discarded(self) -> int:
        """Events that the tracer counted as discarded, in the packets so far."""
        return sum(one.decoder.discarded for one in self._streams())

    @property
    def holds(self) -> bool:
        """Whether records were read that :meth:`read` has not returned yet."""
        return bool(self._ordering) or any(one.decoder.waiting for one in self._streams())

    @property
    def lacks_metadata(self) -> bool:
        """Whether a packet has waited for metadata for a while."""
        waits_s = time.monotonic() - self._waits_since_s if self._waits_since_s else 0.0
        return _PATIENCE_S / 2 < waits_s < _PATIENCE_S

    def behind(self) -> int:
        """Return how many bytes wait to be read."""
        return sum(one.behind() for one in self._streams())

    def read(self, *, final: bool = False) -> Items:
        """Return the records since the last call that no older one can follow, by time.

        ``final``: nothing is written any more.
        """
        out = self._look(final=final)
        clocks = Clocks(time.time_ns())
        self.shed()
        self.dry = any(trace.layout for trace in self._traces.values())
        least: list[int] = []
        for trace in self._traces.values():
            now_ns = trace.now_ns()
            for stream in trace.streams.values():
                decoder = stream.decoder
                if not decoder.waiting:
                    self._read_one(stream, now_ns, clocks)
                if decoder.waiting or not stream.dry:
                    self.dry = False
                    least.append(decoder.last_ns)
                else:
                    least.append(max(decoder.last_ns, now_ns - self._hold_ns))
        whole = final and self.dry
        return out + self._ordering.take(None if whole or not least else min(least))

    def _read_one(self, stream: TraceFiles, now_ns: int, clocks: Clocks) -> None:
        was_dry = stream.dry
        data = stream.read(_CHUNK_BYTES)
        self.taken += len(data)
        items = stream.decoder.feed(data, clocks) if data else []
        if was_dry and items and isinstance(items[0], Batch):
            late_ns = (now_ns - int(items[0].time_ns[0])) * 3 // 2
            hold_ns = max(_HOLD_NS, self._hold_ns * 15 // 16, late_ns)
            self._hold_ns = min(hold_ns, _LONGEST_HOLD_NS)
        self._ordering.add(items)

    def shed(self) -> None:
        """Count and drop what would be overwritten before it is read."""
        clocks = Clocks(time.time_ns())
        for stream in self._streams():
            if stream.decoder.waiting or stream.behind() <= self._keep_bytes:
                continue
            count, time_ns = 0, 0
            while not stream.decoder.waiting and stream.behind() > self._keep_bytes // 2:
                data = stream.read(_CHUNK_BYTES)
                self.taken += len(data)
                if not data:
                    break
                for item in stream.decoder.feed(data, clocks):
                    if isinstance(item, Loss):
                        self._ordering.add([item])
                    else:
                        time_ns = time_ns or int(item.time_ns[0])
                        count += len(item)
            if count:
                self._ordering.add([Loss(Backend.UST, count, time_ns)])

    def rest(self) -> Items:
        """Return what was read and held back."""
        clocks = Clocks(time.time_ns())
        for stream in self._streams():
            self._ordering.add(stream.decoder.end_file(clocks))
        return self._ordering.take()

    async def wait(self, timeout_s: float) -> None:
        """Wait until more was written, for at most ``timeout_s``."""
        if not self.dry and self._traces and not self.holds:
            return
        if self.holds or not any(trace.streams for trace in self._traces.values()):
            await asyncio.sleep(min(timeout_s, _LOOK_S / 2))
            return
        watches = [
            self._inotify.add_watch(folder, Mask.MODIFY | Mask.CREATE | Mask.ONESHOT)
            for folder in self._traces
            if folder.exists()
        ]
        if any(stream.grew() for stream in self._streams()):
            for watch in watches:
                with contextlib.suppress(OSError):
                    self._inotify.rm_watch(watch)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._inotify.get(), min(timeout_s, _BACKSTOP_S))

    def close(self) -> None:
        """Close all files."""
        for stream in self._streams():
            stream.close()
        self._inotify.close()

    def _streams(self) -> Iterator[TraceFiles]:
        for trace in self._traces.values():
            yield from trace.streams.values()

    def _look(self, *, final: bool) -> Items:
        """Find new traces and streams, and read new metadata where they are waited for."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S and not final:
            return []
        self._looked_s = now_s
        if not any(trace.layout for trace in self._traces.values()):
            for folder in self._folder.glob("ust/uid/*/*-bit"):
                self._traces.setdefault(folder, _SessionTrace(folder))
        out: Items = []
        for trace in self._traces.values():
            waiting = [one for one in trace.streams.values() if one.decoder.waiting]
            if trace.layout is not None and not waiting:
                continue
            if trace.reload(self._table) or (final and trace.reload(self._table)):
                out += self._renew(trace)
            elif waiting:
                self._give_up(waiting, now_s, final=final)
        return out

    def _renew(self, trace: _SessionTrace) -> Items:
        """Use new metadata; return what was held with the old."""
        assert trace.layout is not None
        out = self._ordering.take()
        clocks = Clocks(time.time_ns())
        for stream in trace.streams.values():
            self._ordering.add(stream.decoder.go_on(trace.layout, clocks))
        for path in sorted(trace.folder.iterdir()):
            found = self._name.fullmatch(path.name)
            if found and found[1] not in trace.streams:
                decoder = CtfDecoder(trace.layout, pid=self._pid, whole=True, patient=True)
                prefix = trace.folder / found[1]
                trace.streams[found[1]] = TraceFiles(prefix, self._count, decoder)
        self._waits_since_s = 0.0
        return out

    def _give_up(self, waiting: list[TraceFiles], now_s: float, *, final: bool) -> None:
        """Leave out packets whose events nobody declares."""
        self._waits_since_s = self._waits_since_s or now_s
        if now_s - self._waits_since_s < _PATIENCE_S and not final:
            return
        self._waits_since_s = 0.0
        for stream in waiting:
            self.undeclared += 1
            self._ordering.add(stream.decoder.go_on(None, Clocks(time.time_ns())))
