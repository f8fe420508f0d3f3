"""Real LTTng with a C provider of our own in QEMU's place: exact counts, times, faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from qtctl.backends.base import FeedRequest
from qtctl.backends.ust import daemons as lttngdaemons
from qtctl.backends.ust import feed as ust
from qtctl.backends.ust import lttng, undo
from qtctl.errors import LinkLost, Unsupported
from qtctl.events.declarations import parse_declarations
from qtctl.leases.journal import Owner, Resource
from qtctl.model import Guest
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.session.session import Session
from tests.provider.lttng import DECLARED, Provider, build
from tests.running import Stopwatch

TABLE = EventTable.build(None, parse_declarations(DECLARED).by_name)
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the provider."""
    return build(tmp_path_factory.mktemp("provider"))


@pytest.fixture
def provider(program: Path) -> Iterator[Provider]:
    running = Provider(program)
    try:
        yield running
    finally:
        running.stop()


class Held:
    """A journal in memory."""

    def __init__(self) -> None:
        self.resource: Resource | None = None
        self.notices: list[str] = []

    async def hold(self, owner: Owner, resource: Resource) -> None:
        self.resource = resource


def left_over(held: Held) -> list[str]:
    """Name what is left of a session."""
    assert held.resource is not None
    folder = held.resource.facts["folder"]
    left = [folder] if Path(folder).exists() else []
    names = ("lttng-sessiond",)
    return left + [name for name in names if lttngdaemons.marked(folder, name)]


@contextlib.asynccontextmanager
async def opened(provider: Provider, *picked: str) -> AsyncIterator[tuple[ust.UstFeed, Held]]:
    """Follow events of the provider; nothing may be left behind."""
    held = Held()
    session = SimpleNamespace(guest=provider.guest, leasing=held, notices=held.notices)
    request = FeedRequest(cast(Session, session), Owner(os.getpid(), 0, 1), TABLE, picked)
    feed: ust.UstFeed | None = None
    try:
        feed = await ust.open_feed(request)
        yield feed, held
    finally:
        if held.resource is not None:
            undo.discard(held.resource)
        if feed is not None:
            await feed.close()
    assert left_over(held) == []


async def some(feed: ust.UstFeed) -> Items:
    """Wait once and read."""
    await feed.wait(0.5)
    return feed.read()


async def rest(feed: ust.UstFeed) -> Items:
    """Stop recording and read out."""
    await feed.settle()
    items: Items = []
    deadline = time.monotonic() + LIMIT_S
    while not feed.settled():
        assert time.monotonic() < deadline
        items += await some(feed)
    return items + feed.finish()


def records(items: Items) -> list[Record]:
    return [record for item in items if isinstance(item, Batch) for record in item.records()]


async def test_every_byte_and_number_arrives(provider: Provider) -> None:
    async with opened(provider, "own_text", "own_nothing") as (feed, _):
        provider.tell("texts")
        items = await rest(feed)
    first, second, third = records(items)
    everything = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    assert first.args == {"dev": 2**64 - 1, "name": everything, "ret": -1}
    nasty = 'x", y = "z\\n \n[1.000000002] qemu:own_count: { 0 }, {'
    assert second.args == {"dev": 0, "name": nasty, "ret": 7}
    assert (third.name, third.args, third.raw) == ("own_nothing", {}, None)
    assert {r.tid for r in (first, second, third)} == {provider.process.pid}


async def test_only_what_was_picked_of_this_process_is_recorded(
    provider: Provider, program: Path
) -> None:
    other = Provider(program)
    try:
        async with opened(provider, "own_count", "own_text", "own_nothing") as (feed, _):
            for one in (other, provider):
                for words in ("texts", "clock", "count 3"):
                    one.tell(words)
            found = records(await rest(feed))
    finally:
        other.stop()
    assert [r.name for r in found] == ["own_text", "own_text", "own_nothing", *3 * ["own_count"]]
    assert {r.tid for r in found} == {provider.process.pid}


@pytest.mark.parametrize(
    ("produced", "small"), [(1000, False), (3_000_000, False), (600_000, True)]
)
async def test_delivered_and_lost_add_up_to_produced(
    provider: Provider, produced: int, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # a ring that the provider fills faster than it is emptied
        monkeypatch.setattr(lttng, "PACKET_BYTES", 1 << 14)
        monkeypatch.setattr(lttng, "PACKETS", 2)
    items = await _produced(provider, produced)
    delivered = sum(len(item) for item in items if isinstance(item, Batch))
    losses = [item.count for item in items if isinstance(item, Loss)]
    assert None not in losses
    assert delivered + sum(count or 0 for count in losses) == produced
    assert delivered > 0
    assert bool(losses) or not small
    print(f"produced {produced}, delivered {delivered}, lost in {len(losses)} places")
    count = TABLE.indices["own_count"]
    seen = [np.asarray(one.arguments(count).values["n"]) for one in items if isinstance(one, Batch)]
    assert (np.diff(np.concatenate(seen).astype(np.int64)) > 0).all(), "in order, none twice"


async def _produced(provider: Provider, count: int) -> Items:
    """Return what is read of ``count`` events."""
    items: Items = []
    async with opened(provider, "own_count") as (feed, _):
        telling = asyncio.ensure_future(asyncio.to_thread(provider.tell, f"count {count}"))
        try:
            while not telling.done():
                items += await some(feed)
        finally:
            await telling
        items += await rest(feed)
    return items


async def test_a_record_reaches_the_reader_soon(provider: Provider) -> None:
    late: list[float] = []
    async with opened(provider, "own_clock") as (feed, _):
        for _ in range(20):
            watch = Stopwatch()
            provider.tell("clock")
            found: list[Record] = []
            deadline = time.monotonic() + LIMIT_S
            while not found:
                assert time.monotonic() < deadline
                found = records(await some(feed))
            late.append(time.time() - int(found[0].args["ns"] or 0) / 1e9 - watch.stalled)
    late.sort()
    print("latency ms", [round(seconds * 1000) for seconds in late])
    assert late[len(late) // 2] < 0.1


async def test_two_at_once_see_the_same_and_end_apart(provider: Provider) -> None:
    async with opened(provider, "own_count") as (one, _):
        async with opened(provider, "own_count") as (two, _):
            provider.tell("count 10")
            assert len(records(await rest(two))) == 10
        provider.tell("count 5")
        items = await rest(one)
        assert [r.args["n"] for r in records(items)] == [*range(10), *range(5)], items


async def test_a_session_daemon_of_ours_that_dies_is_told(provider: Provider) -> None:
    async with opened(provider, "own_count") as (feed, held):
        assert held.resource is not None
        pids = lttngdaemons.marked(held.resource.facts["folder"], "lttng-sessiond")
        if not pids:
            pytest.skip("a session daemon ran before the test, and is not the test's to kill")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT_S
        with pytest.raises(LinkLost, match="daemon of LTTng, which records guest"):
            while True:
                assert time.monotonic() < deadline
                await some(feed)


async def test_a_session_daemon_of_ours_that_hangs_is_ended(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(provider, "own_count") as (feed, held):
        assert held.resource is not None
        pids = lttngdaemons.marked(held.resource.facts["folder"], "lttng-sessiond")
        if not pids:
            pytest.skip("a session daemon ran before the test, and is not the test's to stop")
        monkeypatch.setattr(lttng, "STOP_TIMEOUT_S", 0.3)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await feed.settle()
        [loss] = feed.finish()
        assert isinstance(loss, Loss)
        assert loss.count is None


async def test_a_process_that_is_no_provider_is_refused(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lttng, "_REGISTER_TIMEOUT_S", 0.5)
    ourselves = Guest(os.getpid(), 0, "pytest", ())
    stranger = cast(Provider, SimpleNamespace(guest=ourselves))
    with pytest.raises(Unsupported, match="has not registered"):
        async with opened(stranger, "own_count"):
            pass


@pytest.mark.parametrize("name", ["lttng", "lttng-sessiond"])
async def test_a_missing_program_is_named(
    provider: Provider, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda word: None if word == name else found(word))
    with pytest.raises(Unsupported, match=f"{name} is not installed"):
        async with opened(provider, "own_count"):
            pass


async def test_the_end_of_the_process_loses_nothing(provider: Provider) -> None:
    async with opened(provider, "own_count") as (feed, _):
        provider.tell("count 100")
        provider.stop()
        assert len(records(await rest(feed))) == 100


@pytest.mark.parametrize("step", range(1, 9))
async def test_killed_at_any_step_nothing_stays(
    program: Path, provider: Provider, step: int, tmp_path: Path
) -> None:
    """The process that makes the session is killed at its Nth call of ``lttng``."""
    real, facts = shutil.which("lttng"), lttng.new_facts()
    wrapper = tmp_path / "bin" / "lttng"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/calls\n"
        f'{real} "$@"; code=$?\n'
        f"[ $(wc -l < {tmp_path}/calls) -lt {step} ] || kill -9 $PPID\nexit $code\n"
    )
    wrapper.chmod(0o755)
    child = os.fork()
    if child == 0:
        try:
            os.environ["PATH"] = f"{wrapper.parent}:{os.environ['PATH']}"
            lttng.open_session(provider.guest, facts, ["own_count"], [])
        finally:
            os._exit(0)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.WIFSIGNALED(status) or step == 8
    undo.discard(Resource(ust.KIND, facts))
    assert not Path(facts["folder"]).exists()
    assert lttngdaemons.marked(facts["folder"], "lttng-sessiond") == []
    with contextlib.suppress(lttngdaemons.NoDaemon):
        assert facts["session"] not in lttngdaemons.sessions()


async def test_a_full_disk_is_told(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)]
    mounted = await asyncio.to_thread(subprocess.run, mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted: no permission")
    try:
        monkeypatch.setattr(lttng, "_FREE_BYTES", 1 << 20)
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        items: Items = []
        async with opened(provider, "own_count") as (feed, held):
            provider.tell("count 2000000")
            items += await rest(feed)
            notices, room = [*held.notices], os.statvfs(disk)
            print(f"{room.f_bavail * room.f_frsize >> 10} KiB left")
        delivered = sum(len(item) for item in items if isinstance(item, Batch))
        assert 0 < delivered < 2_000_000
        assert any(isinstance(item, Loss) and item.count is None for item in items)
        assert any("has no room left" in one for one in notices)
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
