"""The kernel's times of a log's lines: a trace of the guest's writes to it, in tracefs.

Source: Documentation/trace/events.rst of Linux, checked on 6.18. The instance is qtctl's own, and
records nothing but the system calls of the guest's threads that write to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path

from qtctl.backends.base import Site
from qtctl.backends.log.ledger import Ledger, take_samples
from qtctl.backends.log.target import open_files
from qtctl.backends.log.writes import Numbers, WriteDecoder, WritePairs
from qtctl.backends.ring import instance as ring
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.reader import RingReader
from qtctl.backends.spool.growing import GrowingFile
from qtctl.backends.unix_time import shared_offset
from qtctl.errors import Unsupported
from qtctl.leases.journal import Owner

HINT = "start QEMU with -msg timestamp=on, or --clock arrival"
_ENTERS, _EXITS = ("sys_enter_write", "sys_enter_writev"), ("sys_exit_write", "sys_exit_writev")
_CPU_KIB = 32 << 10
_MEMORY_SHARE = 16
"""The part of the machine's memory that buffers may take: 1/16."""
_SAMPLES = 8
_READS = 64


class KernelClock:
    """Traces a guest's writes to its log, and keeps the :class:`Ledger` of them."""

    def __init__(self, folder: Path, pid: int, reader: RingReader, ledger: Ledger) -> None:
        self.ledger = ledger
        self._folder = folder
        self._pid = pid
        self._reader = reader
        self._offset = shared_offset()
        self._descriptors: tuple[int, ...] = ()

    def read(self, file: GrowingFile) -> bool:
        """Read what the kernel recorded; return whether the places of all writes are proven."""
        self.ledger.sample(take_samples(file.size, _SAMPLES))
        proven = False
        for _ in range(_READS):
            items = self._reader.read(0)
            self.ledger.add(items, self._offset.ns())
            proven = self.ledger.prove(self._reader.until_ns)
            if self._reader.dry:
                break
        return proven

    def watch(self, inode: tuple[int, int]) -> bool:
        """Trace what goes to the file with this device and inode; return whether that changed.

        Raises:
            OSError: the guest has not opened it, or has ended; what was traced still is.
        """
        descriptors = tuple(one.fd for one in open_files(self._pid) if one.inode == inode)
        if not descriptors:
            raise FileNotFoundError(errno.ENOENT, "the guest has not opened the log")
        if descriptors == self._descriptors:
            return False
        chosen = " || ".join(f"fd == {fd}" for fd in descriptors)
        for event in _ENTERS:
            tracefs.write(self._folder / "events/syscalls" / event / "filter", chosen)
        self._descriptors = descriptors
        return True

    def close(self) -> None:
        """Close the buffers; the instance ends with its lease."""
        self._reader.close()


async def open_clock(site: Site, owner: Owner, file: GrowingFile) -> KernelClock:
    """Trace the guest's writes to its log, in an instance that is journalled before.

    Raises:
        Unsupported: the kernel's trace cannot be read here; nothing of it is left.
    """
    guest = ring.seen_guest(site)
    try:
        root = await ring.find("the kernel's times of the log's lines are read")
    except Unsupported as error:
        raise Unsupported(error.message, hint=f"{error.hint}; or {HINT}") from error
    folder = await ring.lease(site, owner, root, "-log")
    return await asyncio.to_thread(_open, root, folder, guest.pid, file)


def _open(root: Path, folder: Path, pid: int, file: GrowingFile) -> KernelClock:
    if not (root / "events/syscalls" / _ENTERS[0]).exists():
        raise Unsupported(
            "this kernel cannot trace system calls (CONFIG_FTRACE_SYSCALLS)", hint=HINT
        )
    total_kib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 10
    cpu_kib = min(_CPU_KIB, tracefs.per_cpu_kib(total_kib // _MEMORY_SHARE))
    with tracefs.making(folder, cpu_kib, HINT):
        tracefs.watch_threads(folder, pid)
        with contextlib.suppress(OSError):  # Linux 6.19 copies what is written, too
            tracefs.write(folder / "syscall_user_buf_size", "0")
        try:
            enters, exits = (
                [tracefs.read_format(root, f"syscalls:{name}") for name in names]
                for names in (_ENTERS, _EXITS)
            )
            layout = tracefs.read_layout(root, enters[0])
            result = exits[0].fields["ret"]
            numbers = Numbers(
                tuple(one.number for one in enters), tuple(one.number for one in exits), result
            )
            if any(one.fields["ret"] != result for one in exits) or result.size != 8:
                raise ValueError("exits of system calls have no ret of 8 bytes")
        except (ValueError, KeyError) as error:
            tracefs.remove_instance(folder)
            raise Unsupported(f"this kernel's trace cannot be read: {error}", hint=HINT) from error
        reader = RingReader(folder, layout.page_bytes, lambda: WriteDecoder(layout, numbers))
        try:
            clock = KernelClock(folder, pid, reader, Ledger(WritePairs(result)))
            clock.watch(file.inode())
            for name in (*_EXITS, *_ENTERS):
                tracefs.write(folder / "events/syscalls" / name / "enable", "1")
            tracefs.write(folder / "tracing_on", "1")
        except OSError:
            reader.close()
            raise
    ring.close_at_end(reader)
    clock.read(file)
    return clock
