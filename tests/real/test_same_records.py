"""One run of a guest, followed through all six backends at once, says the same six times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import qtctl
from qtctl import Backend, EventState, Record, Session
from qtctl.backends.table import TABLE
from tests.qemus import RealGuest, many_devices, require
from tests.real.test_syslog_real import SOCKET, Rsyslog

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(240)]

BACKENDS: list[Backend] = [backend for backend in TABLE if backend != Backend.NOP]
# The guest reads one sector after the other, so every read can be told from the others.
EVENTS = ["virtio_queue_notify", "virtio_blk_*"]
DEVICES = [
    "ahci_reset*", "ide_reset*", "lsi_reset*", "megasas_reset*", "pci_update_*",
    "pic_*", "resettable_phase_*", "resettable_reset*", "usb_xhci_reset", "virtio_set_*",
]  # fmt: skip
"""What a reset of a stopped guest calls, all in the thread of the monitor; few probes to set."""
RESETS = 3
COMMON = 400
"""Records that all backends must have in one unbroken run."""


async def collect(
    session: Session,
    backend: Backend,
    records: list[Record],
    on: asyncio.Event,
    off: asyncio.Event,
    events: Sequence[str],
) -> None:
    """Follow one backend into ``records`` until ``off``; set ``on`` once it follows."""
    stream = session.follow(*events, backend=backend)
    async with stream:
        on.set()
        stopping = asyncio.ensure_future(off.wait())
        stopping.add_done_callback(lambda _: stream.stop())
        async for record in stream.records():
            records.append(record)
        await stopping
    assert stream.counts.lost == stream.counts.unknown_losses == 0, (backend, stream.counts)


async def until(
    condition: Callable[[], bool], tasks: Iterable[asyncio.Task[None]], seconds: float = 60
) -> None:
    """Wait for ``condition``; a task that failed meanwhile fails the test with its own error."""
    async with asyncio.timeout(seconds):
        while not condition():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)


def key(record: Record) -> tuple[str, tuple[tuple[str, int | str | None], ...]]:
    assert record.raw is None, record
    return record.name, tuple(record.args.items())


def unbroken(sequences: dict[Backend, list[Record]]) -> dict[Backend, list[Record]]:
    """Cut each sequence to the run between the first and the last record that all have."""
    keys = {backend: [key(r) for r in records] for backend, records in sequences.items()}
    unique = [
        {one for one in found if one[0] == "virtio_blk_handle_read"} for found in keys.values()
    ]
    shared = set.intersection(*unique)
    cut = {}
    for backend, found in keys.items():
        places = [index for index, one in enumerate(found) if one in shared]
        assert places, f"{backend} shares nothing: {len(found)} records"
        cut[backend] = sequences[backend][places[0] : places[-1] + 1]
    return cut


@pytest.fixture
def system_log(tmp_path: Path) -> Iterator[None]:
    """Have somebody serve /dev/log; a machine's own daemon will do as well."""
    if SOCKET.exists():
        yield
        return
    with Rsyslog(tmp_path, 'SysSock.RateLimit.Interval="0"'):
        yield


@asynccontextmanager
async def followed(
    guest: RealGuest, events: Sequence[str], found: dict[Backend, list[Record]], seconds: float = 60
) -> AsyncIterator[tuple[Session, list[asyncio.Task[None]]]]:
    """Follow a guest through all backends into ``found``; yield its session, and the tasks."""
    on, off = {backend: asyncio.Event() for backend in BACKENDS}, asyncio.Event()
    async with qtctl.attach(guest.address) as session:
        known = (await session.backends()).known
        if set(known) != set(BACKENDS):
            pytest.skip(f"this QEMU has only {', '.join(known)}")
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(collect(session, b, found.setdefault(b, []), on[b], off, events))
                for b in BACKENDS
            ]
            await until(lambda: all(event.is_set() for event in on.values()), tasks, seconds)
            yield session, tasks
            off.set()
        assert EventState.ENABLED not in (await session.list()).values()


async def test_six_backends_say_the_same(own_folders: Path, system_log: None) -> None:
    sequences: dict[Backend, list[Record]] = {}
    with RealGuest(require("built"), image="sectors", extra=["-msg", "timestamp=on"]) as guest:
        async with followed(guest, EVENTS, sequences) as (_, tasks):
            enough = {backend: len(found) + 1000 for backend, found in sequences.items()}
            await until(lambda: all(len(sequences[b]) > enough[b] for b in BACKENDS), tasks)
    cut = unbroken(sequences)
    expected = [key(record) for record in cut[Backend.LOG]]
    assert len(expected) > COMMON
    for backend, records in cut.items():
        got = [key(record) for record in records]
        assert got == expected, f"{backend} differs from log"
    for backend, records in cut.items():
        slack_ns = 2_000_000_000 if backend == Backend.SYSLOG else 50_000_000
        pairs = zip(records, cut[Backend.LOG], strict=True)
        apart_ns = [abs(record.time_ns - other.time_ns) for record, other in pairs]
        assert max(apart_ns) < slack_ns, (backend, max(apart_ns))
        median_ms = sorted(apart_ns)[len(apart_ns) // 2] / 1e6
        same, total = len(records), len(sequences[backend])
        print(f"{backend:7} {same} as log has them, {total} in all, {median_ms:.3f} ms apart")


async def test_six_backends_say_the_same_of_many_devices(
    own_folders: Path, system_log: None
) -> None:
    """Resets of a stopped guest: hundreds of kinds of records, each in the same order."""
    found: dict[Backend, list[Record]] = {}
    extra = ["-S", "-msg", "timestamp=on", *many_devices(own_folders)]
    with RealGuest(require("built"), image="sectors", extra=extra) as guest:
        async with followed(guest, DEVICES, found, 150) as (session, tasks):
            for _ in range(RESETS):
                assert await session.monitor.hmp("system_reset") == ""
                await asyncio.sleep(0.5)
            await until(lambda: len({len(rows) for rows in found.values()}) == 1, tasks)
    log = found[Backend.LOG]
    assert len(log) > COMMON
    assert {record.tid for record in log} == {guest.pid}
    for backend, records in found.items():
        assert list(map(key, records)) == list(map(key, log)), f"{backend} differs from log"
        tids = {record.tid for record in records}
        assert tids == {None if backend in (Backend.SIMPLE, Backend.SYSLOG) else guest.pid}
    names = {record.name for record in log}
    print(f"{len(log)} records of {len(names)} events, the same in {len(BACKENDS)} backends")
