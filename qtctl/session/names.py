"""Names of thread ids and pointers: which thread of the guest, which device.

QMP lists vCPUs (``query-cpus-fast``), iothreads (``query-iothreads``) and virtio devices
(``x-query-virtio``, since QEMU 7.2), but no addresses (checked on 7.2, 10.0 and 11.1: neither QOM
nor ``info qtree`` or ``info mtree`` print one). So a pointer gets a name where

- a record itself carries it: ``memory_region_ops_read`` the region's, ``qdev_reset`` the type;
- an event of a virtio device (``virtio_blk_*``) carries its ``vdev`` and the machine has only one
  device of that kind. That pointer is then known in all events.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from qtctl.errors import QtctlError
from qtctl.monitor.answers import cpus_of, iothreads_of, virtio_of
from qtctl.monitor.processes import pid_inside, proc_bytes

if TYPE_CHECKING:
    from qtctl.model import Guest
    from qtctl.monitor.client import Monitor
    from qtctl.records.batch import Batch

_LEARNED = 4096
"""How many names are kept."""
_NAMED_BY = {"mr": ("name",), "obj": ("objtype", "type"), "dev": ("name",)}
"""A pointer argument, and the arguments of the same event that name its object."""
_VIRTIO = re.compile(r"virtio_([a-z]+)_")


class Names:
    """The names of one guest's threads and pointers; make it with :meth:`ask`."""

    def __init__(
        self, threads: dict[int, str], virtio: Sequence[tuple[str, str]], guest: Guest | None
    ) -> None:
        self._threads = threads
        self._virtio = virtio
        self._guest = guest
        self._pointers: dict[int, str] = {}

    @classmethod
    async def ask(cls, monitor: Monitor, guest: Guest | None) -> Names:
        """Query the monitor for threads and devices. Changes nothing; a failed query is ignored."""
        threads: dict[int, str] = {}
        if guest is not None:
            threads[pid_inside(guest.pid)] = "main"
        with contextlib.suppress(QtctlError):
            cpus = await monitor.ask("query-cpus-fast", cpus_of)
            threads |= {tid: f"vCPU {index}" for tid, index in cpus.items()}
        with contextlib.suppress(QtctlError):
            iothreads = await monitor.ask("query-iothreads", iothreads_of)
            threads |= {tid: f"iothread {name}" for tid, name in iothreads.items()}
        virtio: list[tuple[str, str]] = []
        with contextlib.suppress(QtctlError):
            virtio = [
                (name, path.removesuffix("/virtio-backend").removeprefix("/machine/peripheral/"))
                for name, path in await monitor.ask("x-query-virtio", virtio_of)
            ]
        return cls(threads, virtio, guest)

    @classmethod
    def joined(cls, names: Iterable[Names]) -> Names:
        """Return the names of the threads of several guests; an address may be one of each."""
        return cls({tid: name for one in names for tid, name in one._threads.items()}, (), None)

    def thread(self, tid: int) -> str:
        """Return the name of a thread, or an empty string."""
        if tid not in self._threads and len(self._threads) < _LEARNED:
            self._threads[tid] = self._by_kernel(tid)
        return self._threads.get(tid, "")

    def _by_kernel(self, tid: int) -> str:
        """Return the kernel's name of a thread (``worker``; see QEMU's ``debug-threads``)."""
        if self._guest is None or pid_inside(self._guest.pid) != self._guest.pid:
            return ""
        pid = self._guest.pid
        name, main = (proc_bytes(pid, f"task/{thread}/comm") for thread in (tid, pid))
        return name.decode(errors="replace").strip() if main and name != main else ""

    def pointer(self, address: int) -> str:
        """Return the name of the object at an address, or an empty string; see :meth:`learn`."""
        return self._pointers.get(address, "")

    def learn(self, batch: Batch, argument: str) -> None:
        """Learn the names of an argument's pointers from a batch, if events name its objects."""
        if argument not in _NAMED_BY and argument != "vdev":
            return
        for event in batch.groups():
            declaration = None if event < 0 else batch.table.declaration(event)
            if declaration is None or len(self._pointers) >= _LEARNED:
                continue
            have = {one.name for one in declaration.arguments}
            if argument not in have:
                continue
            if argument == "vdev":
                self._learn_virtio(batch, event)
            elif named_by := have.intersection(_NAMED_BY[argument]):
                self._learn_pairs(batch, event, argument, min(named_by))

    def _learn_virtio(self, batch: Batch, event: int) -> None:
        kind = _VIRTIO.match(batch.names[event])
        wanted = f"virtio-{kind[1]}" if kind else ""
        only = len(self._virtio) == 1
        paths = [path for name, path in self._virtio if only or name == wanted]
        if len(paths) != 1:
            return
        columns = batch.arguments(event)
        good, column = columns.ok.nonzero()[0], columns.values.get("vdev")
        if len(good) and column is not None:
            self._pointers[int(column.take(good[:1]).tolist()[0] or 0)] = paths[0]

    def _learn_pairs(self, batch: Batch, event: int, pointer: str, name: str) -> None:
        import numpy as np

        columns = batch.arguments(event)
        good, values = columns.ok.nonzero()[0], columns.values
        addresses = values.get(pointer)
        if isinstance(addresses, np.ndarray) and name in values:
            distinct, first = np.unique(addresses[good], return_index=True)
            room = _LEARNED - len(self._pointers)
            texts = values[name].take(good).take(first[:room]).tolist()
            known = zip(distinct[:room].tolist(), texts, strict=True)
            self._pointers.update({at: str(text) for at, text in known if text is not None})
