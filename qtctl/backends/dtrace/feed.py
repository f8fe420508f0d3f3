"""Following a guest through the dtrace backend: bpftrace on the probes of the picked events."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence

from qtctl.backends.base import Clocks, FeedRequest, Site
from qtctl.backends.dtrace import bpftrace
from qtctl.backends.dtrace.decoder import BpfDecoder
from qtctl.backends.dtrace.probes import TEXT_BYTES
from qtctl.backends.unix_time import unix_offset_ns
from qtctl.errors import QtctlError, Unsupported
from qtctl.model import Guest
from qtctl.records.items import Items

_NAMES = 5
_SETTLE_S = 2.0
_LATELY_NS = 400_000_000


class DtraceFeed:
    """Follows one guest's probes; :func:`open_feed` makes it."""

    def __init__(
        self, tracer: bpftrace.Tracer, decoder: BpfDecoder, site: Site, pid: int, offset_ns: int
    ) -> None:
        count = tracer.probes
        self.source = f"bpftrace on {count} USDT probe{'s' * (count != 1)}"
        self.taken = 0
        self._tracer = tracer
        self._decoder = decoder
        self._site = site
        self._pid = pid
        self._offset_ns = offset_ns
        self._settle_ns = 0
        self._deadline = 0.0

    def behind(self) -> int:
        """Return 0: bpftrace does not show how much waits."""
        return 0

    def read(self) -> Items:
        """Decode the bytes since the last call.

        Raises:
            QtctlError: bpftrace ended, and the guest did not.
        """
        data = self._tracer.pipe.read()
        self.taken += len(data)
        if data:
            return self._decoder.feed(data, self._clocks())
        if self._tracer.pipe.ended and not self._site.guest_ended():
            code, why = self._tracer.process.poll(), self._tracer.error_line()
            raise QtctlError(
                f"bpftrace ended while it followed guest {self._pid}"
                + (f": {why}" if why else f" (code {code})"),
                hint="follow again; what happened meanwhile was not seen",
            )
        return []

    def _clocks(self) -> Clocks:
        return Clocks(time.time_ns(), self._offset_ns)

    def keep_up(self) -> None:
        """Do nothing: the kernel keeps a bounded amount and reports what it loses."""

    async def wait(self, timeout_s: float) -> Items:
        """Wait until bpftrace has printed, for at most ``timeout_s``."""
        await self._tracer.pipe.wait(timeout_s)
        return []

    async def settle(self) -> None:
        """Note the time: each CPU's next sign of life comes after all that happened before."""
        self._settle_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._deadline = time.monotonic() + _SETTLE_S
        lately_ns = self._settle_ns - _LATELY_NS
        idle = [c for c in os.sched_getaffinity(0) if self._decoder.alive.get(c, 0) < lately_ns]
        bpftrace.wake(idle)

    def settled(self) -> bool:
        """Return whether every CPU has delivered its records."""
        if self._tracer.pipe.ended:
            return True
        passed = sum(at > self._settle_ns for at in self._decoder.alive.values())
        if passed >= (os.cpu_count() or 1):
            return True
        return time.monotonic() > self._deadline and passed > 0

    def finish(self) -> Items:
        """Return the rest of an unfinished line."""
        return self._decoder.flush(self._clocks())

    async def close(self) -> None:
        """End bpftrace; the kernel takes its probes away."""
        if not await self._tracer.close():
            count = self._tracer.probes
            self._site.notices.append(
                f"bpftrace has ended; the kernel goes on removing its {count} probes by itself"
            )


async def open_feed(request: FeedRequest) -> DtraceFeed:
    """Attach bpftrace to the picked events' probes; return once it is attached.

    Nothing is journalled: the probes go when bpftrace goes, and that dies with this process.

    Raises:
        Unsupported: the guest is not on this machine, none of the events is a probe, there are
            too many, or bpftrace is missing or refuses.
    """
    guest = request.site.guest
    if guest is None:
        raise Unsupported(
            f"the process behind {request.site.where} is not on this machine",
            hint="run qtctl where QEMU runs",
        )
    binary = f"/proc/{guest.pid}/exe"
    chosen = _plan(request, guest, binary)
    mark = f" |{secrets.token_hex(8)}| "
    program = bpftrace.program_for(chosen, binary, mark)
    offset_ns = unix_offset_ns(time.CLOCK_BOOTTIME)
    tracer = bpftrace.start(program, guest.pid, len(chosen), os.environ)
    try:
        await tracer.attached()
    except BaseException:
        await tracer.close()
        raise
    decoder = BpfDecoder(request.table, mark.encode(), pid=guest.pid)
    return DtraceFeed(tracer, decoder, request.site, guest.pid, offset_ns)


def _plan(request: FeedRequest, guest: Guest, binary: str) -> list[bpftrace.Traced]:
    """Choose the probes; report by name the picked events that are not followed."""
    probes = bpftrace.probes_of(binary)
    chosen, absent = [], []
    for name in request.picked:
        index, places = request.table.indices[name], probes.get(name)
        declaration = request.table.declaration(index)
        event = None if places is None else bpftrace.traced(index, name, places, declaration)
        if event is None:
            absent.append(name)
        else:
            chosen.append(event)
    notices = request.site.notices
    if not chosen:
        raise Unsupported(
            f"guest {guest.pid} has no USDT probe that can be followed for {_some(absent)}",
            hint="qtctl tail --backend NAME, with another backend of this guest",
        )
    if len(chosen) > bpftrace.PROBE_LIMIT:
        raise Unsupported(
            f"{len(chosen)} probes are too many for bpftrace, which takes a tenth of a second for "
            f"each: at most {bpftrace.PROBE_LIMIT}",
            hint="fewer events, or another backend: qtctl tail --backend NAME",
        )
    if absent:
        notices.append(
            f"not followed, as they are no USDT probe bpftrace can read: {_some(absent)}"
        )
    if any(event.texts for event in chosen):
        notices.append(
            f"bpftrace cuts texts at {TEXT_BYTES} bytes: the arguments of such records stay raw"
        )
    return chosen


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES])
    more = len(names) - _NAMES
    return f"{shown} and {more} more" if more > 0 else shown
