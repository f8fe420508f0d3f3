"""A folder of LTTng's to columns, against babeltrace2; and a guest that is followed live.

    python -m benchmarks.ctf [--records N] [--seconds S] [--live N]

Rates are per second of processor time, as the machine may be busy. The trace has two processors;
babeltrace2 reads the same one without output (``--output-format=dummy``). ``--live``: a program
with LTTng tracepoints emits N records as fast as it can; all must be read or counted as lost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from benchmarks.common import best, peer, print_rates, too_slow
from qtctl.backends.base import FeedRequest
from qtctl.backends.ust import kernel, undo
from qtctl.backends.ust.feed import open_feed
from qtctl.backends.ust.saved import LttngFolder
from qtctl.events.declarations import parse_declarations
from qtctl.leases.journal import Owner, Resource
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from qtctl.session.session import Session
from tests import ctffiles as ctf
from tests.provider.lttng import DECLARED, Provider, build
from tests.samples import declarations_text, event_table

PEER = "babeltrace2, decoding only"
LIMITS = {"qtctl, to columns": 4.0, "qtctl, to columns and arguments": 2.0}
"""Minimum ratios to the peer's rate."""
_PACKET_RECORDS = 8_000
_TURN = 1 << 27
"""Times move by a multiple of this, which leaves their low 27 bits, which records have, alone."""


def write(folder: Path, count: int) -> int:
    """Write a trace of about ``count`` records: port I/O, and some requests of a disk."""
    table = event_table("7.2")
    names = ("memory_region_ops_read", "memory_region_ops_write", "virtio_blk_handle_read")
    chosen = {name: table.declarations[name] for name in names}
    small = EventTable.build(None, chosen)
    records, time_ns = [], 0
    for number in range(_PACKET_RECORDS):
        time_ns += 400
        fields = struct.pack("<iQQQI", 0, 1 << 46, 0x70, number, 1) + b"rtc-index\0"
        if number % 20 == 0:
            fields = struct.pack("<QQQQ", 1 << 46, number, number, 1)
        event = 2 if number % 20 == 0 else number % 2
        records.append(ctf.record(event, time_ns, fields))
    packets = max(1, count // _PACKET_RECORDS)
    streams = []
    for processor in (0, 1):
        data = []
        for n in range(processor, packets, 2):
            times = {"first": n * _TURN, "last": n * _TURN + time_ns}
            place = {"sequence": n // 2, "instance": processor}
            data.append(ctf.packet(*records, **times, **place, size=1 << 19))
        streams.append(b"".join(data))
    ctf.write(folder, ctf.table_text(small), *streams)
    return packets * _PACKET_RECORDS


def decode(folder: Path, declared: Path, *, arguments: bool) -> float:
    """Read a folder; return the records per second of CPU time."""
    began, records = time.process_time(), 0
    opened = LttngFolder(folder, declared)
    while (items := opened.read()) is not None:
        for item in items:
            assert isinstance(item, Batch)
            records += len(item)
            for event in item.groups() if arguments else ():
                item.arguments(event)
    return records / (time.process_time() - began)


class _Held:
    """A journal in memory."""

    resource: Resource | None = None

    async def hold(self, owner: Owner, resource: Resource) -> None:
        self.resource = resource


async def live(folder: Path, count: int) -> bool:
    """Follow a program that emits ``count`` records; print what came of it."""
    provider, held = Provider(build(folder)), _Held()
    table = EventTable.build(None, parse_declarations(DECLARED).by_name)
    site = cast(Session, SimpleNamespace(guest=provider.guest, leasing=held, notices=[]))
    read = lost = 0

    def add(items: list[Item]) -> None:
        nonlocal read, lost
        for item in items:
            if isinstance(item, Batch):
                read += len(item)
            elif isinstance(item, Loss):
                lost += item.count or 0

    try:
        feed = await open_feed(FeedRequest(site, Owner(os.getpid(), 0, 1), table, ["own_count"]))
        wall, cpu = time.perf_counter(), time.process_time()
        telling = asyncio.ensure_future(asyncio.to_thread(provider.tell, f"count {count}"))
        while not telling.done():
            await feed.wait(0.1)
            add([*await asyncio.to_thread(feed.read)])
        took = time.perf_counter() - wall
        await feed.settle()
        while not feed.settled():
            add([*await asyncio.to_thread(feed.read)])
        add([*feed.finish()])
        used = time.process_time() - cpu
        await feed.close()
    finally:
        if held.resource is not None:
            undo.discard(held.resource)
        provider.stop()
    print(f"\nlive: {count} produced in {took:.1f} s ({count / took / 1e6:.2f} million/s)")
    print(f"{read} read, {lost} lost, {count - read - lost} missing; {used:.1f} s of CPU time")
    return read + lost != count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ctf", description=__doc__)
    parser.add_argument("--records", type=int, default=4_000_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line of the table")
    parser.add_argument("--live", type=int, default=20_000_000)
    options = parser.parse_args()
    count = options.records if kernel.COMPILED else min(options.records, 20_000)
    with tempfile.TemporaryDirectory(prefix="qtctl-bench-") as name:
        folder = Path(name)
        (folder / "all").write_text(declarations_text("7.2"))
        count = write(folder / "trace", count)
        read = partial(decode, folder / "trace", folder / "all")
        rows = [
            (title, best(partial(read, arguments=arguments), options.seconds))
            for title, arguments in (
                ("qtctl, to columns", False),
                ("qtctl, to columns and arguments", True),
            )
        ]
        quiet = ["babeltrace2", str(folder / "trace"), "--output-format=dummy"]
        rows.append((PEER, peer(quiet, count)))
        print_rates(rows, "records", PEER)
        slow = kernel.COMPILED and too_slow(rows, PEER, LIMITS)
        wrong = bool(options.live) and asyncio.run(live(folder, options.live))
    return int(slow or wrong)


if __name__ == "__main__":
    sys.exit(main())
