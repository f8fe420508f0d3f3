"""Uprobes on a C provider of our own in QEMU's place: exact counts, times, texts, faults."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from qtctl.backends.base import FeedRequest, Site
from qtctl.backends.dtrace import feed as dtrace
from qtctl.backends.dtrace import undo, uprobes
from qtctl.backends.ring import tracefs
from qtctl.backends.tracers import may_have_tracers
from qtctl.errors import Unsupported
from qtctl.events.declarations import parse_declarations
from qtctl.leases.journal import Owner, Resource
from qtctl.model import Clock, Guest
from qtctl.monitor.client import Monitor
from qtctl.monitor.processes import same_process, start_ticks
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from tests import needs, tracing
from tests.provider import Program
from tests.running import TOP, Stopwatch, eventually

DECLARED = """
own_count(uint64_t n) "%"PRIu64
own_clock(uint64_t ns) "%"PRIu64
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_pair(const char *one, int number, const char *two, const char *three) "%s %d %s %s"
own_many(int8_t a, uint8_t b, int16_t c, uint16_t d, int32_t e, uint32_t f, int64_t g, const char *h, int32_t i, uint8_t j) "%d"
own_nothing(void) ""
own_no_probe(int a) "%d"
"""  # noqa: E501 - a declaration is one line
TABLE = EventTable.build(
    [*parse_declarations(DECLARED).by_name, "own_undeclared"], parse_declarations(DECLARED).by_name
)
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the provider, where the kernel lets uprobes be set."""
    needs.program("gcc", "gcc")
    if not Path("/usr/include/sys/sdt.h").exists() and not list(
        Path("/usr/include").glob("*/sys/sdt.h")
    ):
        needs.packaged("sys/sdt.h", "systemtap-sdt-dev")
    needs.tracefs()
    if os.geteuid() != 0 or not os.access(needs.TRACEFS / "uprobe_events", os.W_OK):
        pytest.skip("uprobes take root, and a kernel that has them")
    out = tmp_path_factory.mktemp("provider") / "provider"
    source = TOP / "tests" / "provider_usdt" / "usdt.c"
    subprocess.run(["gcc", "-O1", "-o", out, source], check=True, timeout=60)
    return out


class Provider(Program):
    """Program with USDT probes."""

    def tell(self, words: str) -> int:
        """Have it emit, wait until it has, and return how many trace ``own_count``."""
        return int(self.ask(words))


@pytest.fixture
def provider(program: Path) -> Iterator[Provider]:
    running = Provider(program)
    try:
        yield running
    finally:
        running.stop()


class Leasing:
    """Remembers what is held; stands in for the journal."""

    def __init__(self) -> None:
        self.held: list[Resource] = []

    async def hold(self, owner: Owner, resource: Resource) -> None:
        self.held.append(resource)


def request_for(guest: Guest, *picked: str, serial: int = 1) -> FeedRequest:
    site = SimpleNamespace(
        guest=guest,
        notices=[],
        where="here",
        leasing=Leasing(),
        guest_ended=lambda: not same_process(guest.pid, guest.started),
    )
    return FeedRequest(cast(Site, site), Owner(os.getpid(), 0, serial), TABLE, picked)


def left() -> list[str]:
    """Return what qtctl of this process has in tracefs."""
    lines = (needs.TRACEFS / "uprobe_events").read_text().splitlines()
    made = [str(path) for path in (needs.TRACEFS / "instances").glob(f"qtctl_{os.getpid()}_*")]
    return made + [line for line in lines if f"qtctl_{os.getpid()}_" in line]


@contextlib.asynccontextmanager
async def opened(
    provider: Provider, *picked: str, serial: int = 1
) -> AsyncIterator[dtrace.DtraceFeed]:
    """Follow events of the provider; nothing may be left behind."""
    feed = await dtrace.open_feed(request_for(provider.guest, *picked, serial=serial))
    try:
        yield feed
    finally:
        await feed.close()
    eventually(lambda: not [one for one in left() if f"_0_{serial}/" in one], "no probe")
    eventually(lambda: not feed._keeper.instance.exists(), "no instance is left")


async def rest(feed: dtrace.DtraceFeed) -> Items:
    """Read all that happened until now."""
    await feed.settle()
    items: Items = []
    deadline = time.monotonic() + LIMIT_S
    while not feed.settled():
        assert time.monotonic() < deadline
        items += await feed.wait(0.5)
        items += feed.read()
    return items + feed.finish()


def records(items: Items) -> list[Record]:
    return [record for item in items if isinstance(item, Batch) for record in item.records()]


def lost_of(items: Items) -> int:
    return sum(item.count or 0 for item in items if isinstance(item, Loss))


def test_probes_are_seen_at_a_glance(provider: Provider) -> None:
    assert may_have_tracers(provider.process.pid)


async def test_numbers_and_texts_arrive_as_declared(provider: Provider) -> None:
    names = ("own_text", "own_pair", "own_many", "own_nothing", "own_undeclared")
    async with opened(provider, *names) as feed:
        provider.tell("texts")
        found = records(await rest(feed))
    texts = [r.args for r in found if r.name == "own_text"]
    every = "".join(str(t["name"]) for t in texts[:5]).encode("utf-8", "surrogateescape")
    assert every == bytes(range(1, 256))
    assert [t["ret"] for t in texts] == [-1, -61, -121, -181, -241, 1, 2, 3]
    assert texts[0]["dev"] == 2**64 - 1
    assert texts[5]["name"] == "x" * 999
    assert texts[6]["name"] is None
    assert texts[7]["name"] == '\\n"}\n{"type": "printf", "data": "0 1 1\\n"}\n'
    by_name = {r.name: r for r in found}
    pair = {"one": "one |0| two ", "number": -7, "two": "", "three": " three"}
    assert by_name["own_pair"].args == pair
    assert list(by_name["own_pair"].args) == list(pair)
    assert by_name["own_many"].args == {
        "a": -1, "b": 255, "c": -2, "d": 65535, "e": -3, "f": 4294967295, "g": -4, "h": "a text",
        "i": -5, "j": 200,
    }  # fmt: skip
    assert (by_name["own_nothing"].args, by_name["own_nothing"].raw) == ({}, None)
    # As many bytes as the note says: 4 each.
    assert by_name["own_undeclared"].raw == "1100000012000000"
    assert {r.tid for r in found} == {provider.process.pid}
    assert {r.clock for r in found} == {Clock.REALTIME}


async def test_a_flood_arrives_whole_and_in_order(provider: Provider) -> None:
    produced = 200_000
    async with opened(provider, "own_count") as feed:
        telling = asyncio.ensure_future(asyncio.to_thread(provider.tell, f"count {produced}"))
        items: Items = []
        while not telling.done():
            items += await feed.wait(0.2)
            items += feed.read()
        items += await rest(feed)
    assert lost_of(items) == 0
    assert [r.args["n"] for r in records(items)] == [*range(produced)]
    times = [r.time_ns for r in records(items)]
    assert times == sorted(times)


@pytest.mark.parametrize("moving", [False, True])
async def test_delivered_and_lost_add_up_to_produced(
    provider: Provider, moving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads, and the buffer is small; ``moving``: the provider changes processors."""
    monkeypatch.setattr(uprobes, "_CPU_KIB", 256)
    produced = 60_000
    cpus = sorted(os.sched_getaffinity(provider.process.pid))
    async with opened(provider, "own_count") as feed:
        for number in range(6):
            cpu = cpus[number % len(cpus) if moving else 0]
            os.sched_setaffinity(provider.process.pid, {cpu})
            await asyncio.to_thread(provider.tell, f"count {produced // 6}")
        items = await rest(feed)
    delivered = [int(r.args["n"] or 0) for r in records(items)]
    lost = lost_of(items)
    print(f"{produced} produced, {len(delivered)} delivered, {lost} reported lost")
    assert len(delivered) + lost == produced
    assert lost > 0
    if not moving:
        assert isinstance(items[0], Loss)  # the oldest are overwritten


async def test_a_text_too_long_for_the_kernel_is_marked_or_counted(provider: Provider) -> None:
    """It drops a record whose texts have more than a page, and cuts a text of more than one."""
    async with opened(provider, "own_text") as feed:
        for size in (3900, 4094, 4097, 10):
            provider.tell(f"long {size}")
        items = await rest(feed)
    sizes = [len(str(r.args["name"])) if r.args else -1 for r in records(items)]
    assert sizes == [3900, -1, 10]
    assert [r.cut for r in records(items)] == [False, True, False]
    assert lost_of(items) == 1


async def test_a_record_is_read_soon_after_its_event(provider: Provider) -> None:
    late, off = [], []
    async with opened(provider, "own_clock") as feed:
        for _ in range(40):
            watch = Stopwatch()
            provider.tell("clock")
            found: list[Record] = []
            while not found:
                found = records([*await feed.wait(1.0), *feed.read()])
            late.append(
                (time.time_ns() - int(found[0].args["ns"] or 0)) / 1e6 - watch.stalled * 1e3
            )
            off.append(abs(found[0].time_ns - int(found[0].args["ns"] or 0)) / 1e6)
    print(f"latency ms: median {sorted(late)[20]:.2f}, worst {max(late):.2f}; clock {max(off):.3f}")
    assert sorted(late)[20] < 500
    assert sorted(off)[20] < 5


async def test_bpftrace_reads_the_same(provider: Provider) -> None:
    command = needs.program("bpftrace", "bpftrace")
    pid = provider.process.pid
    program = f'usdt:/proc/{pid}/exe:qemu:own_count {{ printf("%llu %d\\n", arg0, tid); }}'
    oracle = await asyncio.create_subprocess_exec(
        command, "-p", str(pid), "-e", program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        attached, deadline = False, time.monotonic() + LIMIT_S
        while not attached and oracle.returncode is None and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            attached = provider.tell("") == 1
        if not attached:
            pytest.skip("bpftrace does not attach here")
        async with opened(provider, "own_count") as feed:
            provider.tell("count 50")
            provider.tell("threads 3")
            found = records(await rest(feed))
        oracle.send_signal(signal.SIGINT)
    except BaseException:
        oracle.kill()
        raise
    finally:
        out, _ = await oracle.communicate()
    # It has a buffer for each processor, and passes them on in any order.
    theirs = [line.split() for line in out.decode().splitlines() if line[:1].isdigit()]
    assert sorted([str(r.args["n"]), str(r.tid)] for r in found) == sorted(theirs)
    assert len(theirs) == 53


async def test_threads_to_come_are_followed(provider: Provider) -> None:
    async with opened(provider, "own_count") as feed:
        provider.tell("threads 3")
        found = records(await rest(feed))
    assert len(found) == 3
    assert len({r.tid for r in found} - {provider.process.pid}) == 3


async def test_only_this_process_is_traced_and_other_tracers_stay(
    provider: Provider, program: Path
) -> None:
    other = Provider(program)
    root = needs.TRACEFS
    strange = f"strange_{os.getpid()}/own"
    tracefs.write(root / "uprobe_events", f"p:{strange} {program}:0x1000\n", append=True)
    try:
        async with opened(provider, "own_count") as first:
            assert (provider.tell("count 1"), other.tell("count 5")) == (1, 1)
            async with opened(provider, "own_count", serial=2) as second:
                assert provider.tell("count 2") == 1
                assert len(records(await rest(second))) == 2
            assert provider.tell("count 4") == 1
            assert len(records(await rest(first))) == 7
        assert strange in (root / "uprobe_events").read_text()
    finally:
        tracefs.write(root / "uprobe_events", f"-:{strange}\n", append=True)
        other.stop()


async def test_options_of_the_global_buffer_add_no_records(provider: Provider) -> None:
    """An instance inherits them; stack traces are records of their own, which nobody wants."""
    option = needs.TRACEFS / "options" / "stacktrace"
    before = option.read_text()
    tracefs.write(option, "1")
    try:
        async with opened(provider, "own_count") as feed:
            provider.tell("count 3")
            items = await rest(feed)
    finally:
        tracefs.write(option, before)
    assert [r.args["n"] for r in records(items)] == [0, 1, 2]
    assert lost_of(items) == 0


async def test_a_binary_that_was_replaced_is_followed(program: Path, tmp_path: Path) -> None:
    for name in ("gone", "new"):
        own = tmp_path / f"own {name}"
        own.write_bytes(program.read_bytes())
        own.chmod(0o755)
        running = Provider(own)
        own.unlink()
        if name == "new":
            own.write_bytes(b"something else")
        try:
            async with opened(running, "own_count") as feed:
                running.tell("count 3")
                assert len(records(await rest(feed))) == 3
        finally:
            running.stop()


async def test_a_guest_in_a_container_is_followed(tmp_path: Path) -> None:
    """Its binary is not at that path here, and its thread ids are others there."""
    needs.containers()
    source = TOP / "tests" / "provider_usdt" / "usdt.c"
    command = ["gcc", "-O1", "-static", "-o", str(tmp_path / "own"), str(source)]
    if subprocess.run(command, check=False, timeout=60).returncode:  # noqa: ASYNC221
        pytest.skip("no static libc")
    script = tmp_path / "start"
    words = f"unshare --mount --pid --fork --kill-child chroot {tmp_path} /own"
    script.write_text(f"#!/bin/sh\nexec {words}\n")
    script.chmod(0o755)
    running = Provider(script)
    try:
        assert running.tell("") == 0
        outer = running.process.pid
        (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        guest = Guest(int(inner), start_ticks(int(inner)) or 0, "provider", ())
        feed = await dtrace.open_feed(request_for(guest, "own_count"))
        running.tell("count 3")
        found = records(await rest(feed))
        await feed.close()
        assert [(r.args["n"], r.tid) for r in found] == [(n, int(inner)) for n in range(3)]
        eventually(lambda: left() == [], "nothing is left")
    finally:
        running.stop()


async def test_a_guest_that_ends_leaves_what_it_emitted(program: Path) -> None:
    gone = Provider(program)
    async with opened(gone, "own_count") as feed:
        gone.tell("count 3")
        gone.stop()
        assert len(records(await rest(feed))) == 3


def _hang(pid: int) -> None:
    """Follow until killed; runs as a process of its own."""

    async def follow() -> None:
        guest = Guest(pid, start_ticks(pid) or 0, "provider", ())
        feed = await dtrace.open_feed(request_for(guest, "own_count"))
        print(feed._keeper.instance, flush=True)
        await asyncio.sleep(60)

    asyncio.run(follow())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_one_leaves_nothing(provider: Provider, number: int) -> None:
    code = f"from {__name__} import _hang; _hang({provider.process.pid})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as following:
        assert following.stdout is not None
        instance = Path(following.stdout.readline().decode().strip())
        assert provider.tell("") == 1
        following.send_signal(number)
    eventually(lambda: provider.tell("") == 0, "no probe is left")
    eventually(lambda: not instance.exists(), "no instance is left")


async def test_without_its_keeper_the_journal_undoes_it(provider: Provider) -> None:
    request = request_for(provider.guest, "own_count")
    feed = await dtrace.open_feed(request)
    (resource,) = cast(Leasing, request.site.leasing).held
    feed.reader.close()
    assert undo._keepers.pop(str(feed._keeper.instance)) is feed._keeper  # as in another process
    assert await undo.end(resource, cast(Monitor, None), None) == ""
    assert left() == []
    assert await undo.end(resource, cast(Monitor, None), None) == ""
    os.close(feed._keeper._pipe)


async def test_what_cannot_be_followed_is_told_by_name(provider: Provider) -> None:
    request = request_for(provider.guest, "own_count", "own_no_probe")
    feed = await dtrace.open_feed(request)
    await feed.close()
    eventually(lambda: left() == [], "nothing is left")
    assert "own_no_probe" in request.site.notices[0]
    with pytest.raises(Unsupported, match="no USDT probe that can be followed for own_no_probe"):
        await dtrace.open_feed(request_for(provider.guest, "own_no_probe"))


async def test_a_kernel_that_refuses_is_told_and_nothing_is_left(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number, wanted in (
        ("uprobe_events", errno.ENOENT, "CONFIG_UPROBE_EVENTS"),
        ("uprobe_events", errno.EPERM, "refuses uprobes: Operation not permitted"),
        ("buffer_size_kb", errno.ENOMEM, "buffer_size_kb Cannot allocate memory"),
        ("trace_clock", errno.EINVAL, "cannot set up the tracefs instance"),
        ("enable", errno.EIO, "cannot be followed: Input/output error"),
    ):
        with (
            tracing.refused(monkeypatch, name, number),
            pytest.raises(Unsupported, match=wanted),
        ):
            await dtrace.open_feed(request_for(provider.guest, "own_count"))
        eventually(lambda: left() == [], "nothing is left")
    for name, wanted in (("parse_format", "of another form"), ("parse_layout", "of another form")):

        def unknown(*words: str) -> None:
            raise ValueError("of another form")

        monkeypatch.setattr(tracefs, name, unknown)
        with pytest.raises(Unsupported, match=wanted):
            await dtrace.open_feed(request_for(provider.guest, "own_count"))
        monkeypatch.undo()
        eventually(lambda: left() == [], "nothing is left")
    monkeypatch.setattr(tracefs, "PLACES", (Path("/nonexistent"),))
    with pytest.raises(Unsupported, match="where USDT probes are read, is not mounted"):
        await dtrace.open_feed(request_for(provider.guest, "own_count"))
