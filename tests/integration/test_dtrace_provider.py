"""Real bpftrace on a C provider of our own in QEMU's place: exact counts, times, texts, faults."""

from __future__ import annotations

import asyncio
import contextlib
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

from qtctl.backends.base import FeedRequest
from qtctl.backends.dtrace import bpftrace
from qtctl.backends.dtrace import feed as dtrace
from qtctl.backends.dtrace.probes import TEXT_BYTES
from qtctl.backends.tracers import may_have_tracers
from qtctl.errors import QtctlError, Unsupported
from qtctl.events.declarations import parse_declarations
from qtctl.leases.journal import Owner
from qtctl.model import Clock, Guest
from qtctl.monitor.processes import same_process, start_ticks
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.session.session import Session
from tests import needs
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
    """Compile the provider, where bpftrace works."""
    needs.program("gcc", "gcc")
    needs.program("bpftrace", "bpftrace")
    if os.geteuid() != 0:
        pytest.skip("bpftrace needs root")
    if not Path("/usr/include/sys/sdt.h").exists() and not list(
        Path("/usr/include").glob("*/sys/sdt.h")
    ):
        needs.packaged("sys/sdt.h", "systemtap-sdt-dev")
    tried = subprocess.run(
        ["bpftrace", "-e", "BEGIN { exit(); }"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"bpftrace may not run here: {tried.stderr.strip()[-200:]}")
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
    # bpftrace has a buffer for each processor, and keeps the order of records within each.
    os.sched_setaffinity(running.process.pid, {min(os.sched_getaffinity(running.process.pid))})
    try:
        yield running
    finally:
        running.stop()


def request_for(guest: Guest, *picked: str) -> FeedRequest:
    session = SimpleNamespace(
        guest=guest,
        notices=[],
        where="here",
        guest_ended=lambda: not same_process(guest.pid, guest.started),
    )
    return FeedRequest(cast(Session, session), Owner(os.getpid(), 0, 1), TABLE, picked)


@contextlib.asynccontextmanager
async def opened(provider: Provider, *picked: str) -> AsyncIterator[dtrace.DtraceFeed]:
    """Follow events of the provider; no probe may be left behind."""
    feed = await dtrace.open_feed(request_for(provider.guest, *picked))
    try:
        yield feed
    finally:
        await feed.close()
    if provider.process.poll() is None:
        eventually(lambda: provider.tell("") == 0, "no probe is left")


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


def test_probes_are_seen_at_a_glance(provider: Provider) -> None:
    assert may_have_tracers(provider.process.pid)


async def test_numbers_and_texts_arrive_as_declared(provider: Provider) -> None:
    names = ("own_text", "own_pair", "own_many", "own_nothing", "own_undeclared")
    async with opened(provider, *names) as feed:
        provider.tell("texts")
        found = records(await rest(feed))
    texts = [r.args for r in found if r.name == "own_text" and r.raw is None]
    every = "".join(str(t["name"]) for t in texts[:5]).encode("utf-8", "surrogateescape")
    assert every == bytes(range(1, 256))
    assert [t["ret"] for t in texts] == [-1, -61, -121, -181, -241, 2, 3]
    assert texts[0]["dev"] == 2**64 - 1
    [cut] = [r.raw for r in found if r.name == "own_text" and r.raw is not None]
    assert cut.endswith("x" * TEXT_BYTES)
    assert texts[5]["name"] == ""
    assert texts[6]["name"] == '\\n"}\n{"type": "printf", "data": "0 1 1\\n"}\n'
    by_name = {r.name: r for r in found}
    pair = {"one": "one |0| two ", "number": -7, "two": "", "three": " three"}
    assert by_name["own_pair"].args == pair
    assert list(by_name["own_pair"].args) == list(pair)
    assert by_name["own_many"].args == {
        "a": -1, "b": 255, "c": -2, "d": 65535, "e": -3, "f": 4294967295, "g": -4, "h": "a text",
        "i": -5, "j": 200,
    }  # fmt: skip
    assert (by_name["own_nothing"].args, by_name["own_nothing"].raw) == ({}, None)
    assert by_name["own_undeclared"].raw == "11 12"
    assert {r.tid for r in found} == {provider.process.pid}
    assert {r.clock for r in found} == {Clock.REALTIME}


def lost_of(items: Items) -> int:
    return sum(item.count or 0 for item in items if isinstance(item, Loss))


async def test_nothing_is_lost_while_the_buffer_has_room(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer holds a portion, and the next one comes once that is read, however slowly."""
    monkeypatch.setattr(bpftrace, "_BUFFER_PAGES", 64)
    portion, portions = 2500, 8
    items: Items = []
    async with opened(provider, "own_count") as feed:
        for told in range(portion, portion * portions + 1, portion):
            assert provider.tell(f"count {portion}") == 1
            deadline = time.monotonic() + LIMIT_S
            while len(records(items)) + lost_of(items) < told:
                assert time.monotonic() < deadline
                items += await feed.wait(0.2)
                items += feed.read()
        items += await rest(feed)
    assert lost_of(items) == 0
    assert [r.args["n"] for r in records(items)] == [*range(portion)] * portions


@pytest.mark.parametrize("stalled", [False, True])
async def test_delivered_and_lost_add_up_to_produced(
    provider: Provider, stalled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpftrace, "_BUFFER_PAGES", 64)
    produced = 60_000
    async with opened(provider, "own_count") as feed:
        tracer = feed._tracer.process
        if stalled:
            os.kill(tracer.pid, signal.SIGSTOP)
        items: Items = []
        telling = asyncio.ensure_future(asyncio.to_thread(provider.tell, f"count {produced}"))
        while not telling.done():
            items += await feed.wait(0.2)
            items += feed.read()
        if stalled:
            os.kill(tracer.pid, signal.SIGCONT)
        items += await rest(feed)
    delivered = [int(r.args["n"] or 0) for r in records(items)]
    lost = lost_of(items)
    print(f"{produced} produced, {len(delivered)} delivered, {lost} reported lost")
    assert len(delivered) + lost == produced
    assert lost > 0 or not stalled  # a busy machine may lose some without a stall
    assert delivered == sorted(delivered)


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


async def test_only_this_process_is_traced_and_other_tracers_stay(
    provider: Provider, program: Path
) -> None:
    other = Provider(program)
    try:
        async with opened(provider, "own_count") as first:
            assert (provider.tell("count 1"), other.tell("count 5")) == (1, 0)
            second = await dtrace.open_feed(request_for(provider.guest, "own_count"))
            try:
                provider.tell("count 2")
                assert len(records(await rest(second))) == 2
            finally:
                await second.close()
            # The kernel counts a semaphore up once a probe, however many trace it.
            assert provider.tell("count 4") == 1
            assert len(records(await rest(first))) == 7
    finally:
        other.stop()


async def test_a_tracer_that_dies_is_told_and_one_of_a_dead_guest_is_not(
    provider: Provider, program: Path
) -> None:
    async with opened(provider, "own_count") as feed:
        feed._tracer.process.kill()
        with pytest.raises(QtctlError, match="bpftrace ended while it followed guest"):
            await asyncio.wait_for(_read_on(feed), LIMIT_S)
    gone = Provider(program)
    async with opened(gone, "own_count") as feed:
        gone.stop()
        deadline = time.monotonic() + LIMIT_S
        while not feed._tracer.pipe.ended:
            assert time.monotonic() < deadline
            await feed.wait(0.1)
            feed.read()
        assert feed.settled()


async def _read_on(feed: dtrace.DtraceFeed) -> None:
    while True:
        await feed.wait(0.5)
        feed.read()


def _hang(pid: int) -> None:
    """Follow until killed; runs as a process of its own."""

    async def follow() -> None:
        guest = Guest(pid, start_ticks(pid) or 0, "provider", ())
        feed = await dtrace.open_feed(request_for(guest, "own_count"))
        print(feed._tracer.process.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(follow())


def test_sigkill_leaves_neither_bpftrace_nor_a_probe(provider: Provider) -> None:
    code = f"from {__name__} import _hang; _hang({provider.process.pid})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=TOP, stdout=subprocess.PIPE
    ) as following:
        assert following.stdout is not None
        tracer = int(following.stdout.readline())
        assert provider.tell("") == 1
        following.kill()
    eventually(lambda: provider.tell("") == 0, "no probe is left")
    eventually(lambda: start_ticks(tracer) is None, "bpftrace is gone")


async def test_what_cannot_be_followed_is_told_by_name(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(provider.guest, "own_count", "own_no_probe")
    feed = await dtrace.open_feed(request)
    await feed.close()
    assert "own_no_probe" in request.site.notices[0]
    with pytest.raises(Unsupported, match="no USDT probe that can be followed for own_no_probe"):
        await dtrace.open_feed(request_for(provider.guest, "own_no_probe"))
    monkeypatch.setattr(bpftrace, "PROBE_LIMIT", 1)
    with pytest.raises(Unsupported, match="2 probes are too many"):
        await dtrace.open_feed(request_for(provider.guest, "own_count", "own_text"))


async def test_a_missing_or_refusing_bpftrace_is_told(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(provider.guest, "own_count")
    fake = tmp_path / "bpftrace"
    for script, wanted in (
        ("echo 'ERROR: Unable to load program' >&2; exit 1", "ERROR: Unable to load program"),
        ("exit 3", "it ended with code 3"),
        ("exec sleep 60", "has not attached 1 probes in time"),
    ):
        fake.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(bpftrace, "_START_S", 1.0)
        with pytest.raises(Unsupported, match=wanted):
            await dtrace.open_feed(request)
    fake.unlink()
    with pytest.raises(Unsupported, match="not installed") as missing:
        await dtrace.open_feed(request)
    assert "apt install bpftrace" in missing.value.hint
    assert "qemu-trace-stap" in missing.value.hint
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unsupported, match="for root only"):
        await dtrace.open_feed(request)
    assert provider.tell("") == 0
