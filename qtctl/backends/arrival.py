"""Checking that trace output arrives: QEMU is made to trace one event, and that is looked for.

QMP itself is traced (``qapi-gen --gen-trace``, since QEMU 7.0): the command ``query-name`` fires
``qmp_enter_query_name``. Checked on QEMU 7.2, 10.0, 10.2 and 11.1.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np

from qtctl.backends.base import Feed, Site
from qtctl.backends.table import TABLE
from qtctl.errors import QtctlError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import new_owner
from qtctl.model import Backend
from qtctl.monitor.advice import start_with
from qtctl.records.batch import Batch
from qtctl.records.items import Items

CHECK_EVENT = "qmp_enter_query_name"
_COMMAND = "query-name"
_ANSWER_S = 1.0
_POLL_S = 0.02
SILENCE_S = 5.0
"""How long a stream may begin without a record before that is looked into."""
_ARRIVAL_S = 2.0
"""How long the record of a check may take: a system log is read 4 times a second."""


async def fire(site: Site) -> bool:
    """Make QEMU trace :data:`CHECK_EVENT` once, and return whether it did.

    The event is leased like any other and off again when this returns, unless it was on before.
    """
    owner = new_owner()
    try:
        # A guest that does not answer is not switched.
        await site.monitor.execute(_COMMAND, timeout_s=_ANSWER_S)
    except QtctlError:
        return False
    try:
        selection = Selection.of(CHECK_EVENT)
        report = await site.leasing.switch(owner, selection, True, told_as=())
        if not report.changed and not report.already:
            return False
        await site.monitor.execute(_COMMAND)
    except QtctlError:
        return False
    finally:
        await site.end(owner)
    return True


class Arrival:
    """Notices that a stream gets no record at all, and reports it once.

    ``take`` is given all that is read of ``feed``, in any thread, and :meth:`watch` runs beside.
    ``report`` is called with a text, and whether it is proven that records do not arrive.
    """

    def __init__(
        self, site: Site, feed: Feed, backend: Backend, report: Callable[[str, bool], None]
    ) -> None:
        self._site = site
        self._report = report
        self._feed = feed
        self._backend = backend
        self._came = threading.Event()
        self._asked_ns = 0
        """When the check was asked for of which the record is expected; 0 if none is."""

    def take(self, items: Items) -> Items:
        """Note whether records came; return the items without the record of the check."""
        if self._came.is_set() and not self._asked_ns:
            return items
        out: Items = []
        for item in items:
            if isinstance(item, Batch):
                if (item.event >= 0).any():
                    self._came.set()
                if self._asked_ns:
                    item = self._without_check(item)
                if not len(item):
                    continue
            out.append(item)
        return out

    def _without_check(self, batch: Batch) -> Batch:
        rows = np.flatnonzero(batch.event == batch.table.indices.get(CHECK_EVENT, -2))
        if not len(rows):
            return batch
        # Or another client's request, alike, would be taken for one of the check's.
        event = CHECK_EVENT.removeprefix("qmp_enter_")
        while self._site.monitor.sent.take(event, None, self._asked_ns, time.time_ns()):
            pass
        self._asked_ns = 0
        return batch.select(np.delete(np.arange(len(batch)), rows[0]))

    async def watch(self) -> None:
        """Wait for a first record; where none comes, have QEMU trace one, and report if none came.

        Backends that do not look at the states of QMP cannot be checked: for them only the silence
        is reported.
        """
        await asyncio.sleep(SILENCE_S)
        if self._came.is_set():
            return
        if TABLE[self._backend].follows_qmp:
            self._asked_ns = time.time_ns()
            if await fire(self._site):
                for _ in range(round(_ARRIVAL_S / _POLL_S)):
                    if self._came.is_set():
                        return
                    await asyncio.sleep(_POLL_S)
                if not self._feed.behind():
                    self._report(self._nothing_arrives(), True)
                return
            self._asked_ns = 0
        if not self._came.is_set():
            self._report(f"no record in {SILENCE_S:g} s from {self._feed.source}", False)

    def _nothing_arrives(self) -> str:
        log = self._backend == Backend.LOG
        where = start_with(self._site.guest, "-D FILE") if log else "qtctl doctor"
        return (
            f"nothing arrives from {self._feed.source}: for a check QEMU traced {CHECK_EVENT}, "
            f"and no record of it was read there; "
            f"try: qtctl status, another --backend, {where}"
        )
