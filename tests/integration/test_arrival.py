"""Where no record arrives: a log that goes elsewhere is found or reported, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import qtctl
from qtctl.backends import arrival
from qtctl.backends.arrival import Arrival
from qtctl.model import Backend
from qtctl.session.stream import Stream
from tests.fake_qmp import FakeProcess
from tests.rawqmp import RawClient
from tests.running import Qtctl, eventually

from .conftest import MakeFake

EVENT = "virtio_blk_handle_read"
LINE = f"{EVENT} vdev 0x1 req 0x2 sector 0 nsectors 1"
CHECK = "qmp_enter_query_name"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Arrival]:
    """Make silence short, keep what the library writes in the test; list who ended watching."""
    found: list[Arrival] = []
    watch = Arrival.watch

    async def watching(one: Arrival) -> None:
        await watch(one)
        found.append(one)

    monkeypatch.setattr(Arrival, "watch", watching)
    monkeypatch.setattr(arrival, "SILENCE_S", 0.05)
    monkeypatch.setattr(arrival, "_ARRIVAL_S", 0.3)
    for name in ("STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name))
    return found


@pytest.fixture
def bare(folder: Path) -> Iterator[Callable[..., FakeProcess]]:
    """Start a fake without ``-D`` whose parent left ``lock`` open to write."""
    with contextlib.ExitStack() as stack:

        def start(stderr: Any = subprocess.DEVNULL) -> FakeProcess:
            lock = stack.enter_context((folder / "lock").open("wb"))
            where = ("--socket", str(folder / "qmp"))
            fake = FakeProcess(*where, stderr=stderr, pass_fds=[lock.fileno()])
            return stack.enter_context(fake)

        yield start


def hmp(fake: FakeProcess, line: str) -> str:
    with RawClient(fake.address) as client:
        return str(client.ask(execute="human-monitor-command", arguments={"command-line": line}))


class Following:
    """A stream that is read until the block ends; what it reported, and the names it showed."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.reports: list[tuple[str, bool]] = []
        self.names: list[str] = []

    async def take(self) -> None:
        async for record in self.stream.records():
            self.names.append(record.name)


@contextlib.asynccontextmanager
async def following(fake: FakeProcess, *patterns: str) -> AsyncIterator[Following]:
    async with qtctl.attach(fake.address) as session, session.follow(*patterns) as stream:
        found = Following(stream)
        stream.on_silence = lambda text, proven: found.reports.append((text, proven))
        taking = asyncio.ensure_future(found.take())
        yield found
        stream.stop()
        await taking


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def checks(fake: FakeProcess) -> int:
    """Return how many checks have been given back."""
    off = {"name": CHECK, "enable": False, "ignore-unavailable": True}
    return sum(call.get("arguments") == off for call in fake.tell()["commands"])


async def test_events_that_do_not_fire_are_not_reported(
    fake: FakeProcess, folder: Path, ended: list[Arrival]
) -> None:
    async with following(fake, EVENT) as followed:
        await until(lambda: ended)
        assert CHECK in (folder / "qmp.log").read_text()
    assert checks(fake) == 1
    assert followed.reports == []
    assert followed.names == []
    assert followed.stream.counts.read == 0
    assert fake.tell()["enabled"] == []


@pytest.mark.usefixtures("ended")
async def test_nothing_arrives_from_a_log_that_was_moved_to_a_device(
    bare: Callable[..., FakeProcess], folder: Path
) -> None:
    with (folder / "stderr").open("wb") as stderr:
        fake = bare(stderr)
        hmp(fake, "logfile /dev/null")
        async with following(fake, EVENT) as followed:
            fake.tell(emit=[LINE])
            await until(lambda: followed.reports)
            await until(lambda: checks(fake) == 2)  # one before it was opened, for the lock file
    [(text, proven)] = followed.reports
    assert text.startswith(f"nothing arrives from {folder}/stderr: for a check QEMU traced {CHECK}")
    assert "try: qtctl status, another --backend, start QEMU with -D FILE" in text
    assert proven
    assert fake.tell()["enabled"] == []


async def test_a_check_happens_only_where_events_are_on_and_none_came(
    fake: FakeProcess, ended: list[Arrival], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SILENCE_S", 0.5)
    async with following(fake, EVENT) as followed:
        fake.tell(emit=[LINE])
        await until(lambda: ended)
    assert followed.names == [EVENT]
    async with following(fake) as followed:  # nothing is on
        assert followed.stream._arrival is None
    assert checks(fake) == 0


@pytest.mark.usefixtures("ended")
async def test_the_record_of_a_check_is_not_shown(fake: FakeProcess, folder: Path) -> None:
    with RawClient(fake.address) as client:
        client.ask(execute="trace-event-set-state", arguments={"name": EVENT, "enable": True})
    async with following(fake) as followed:  # whatever is on
        await until(lambda: checks(fake) == 1)
        await until(lambda: CHECK in (folder / "qmp.log").read_text())
        fake.tell(emit=[f"{CHECK} {{}}", LINE])
        await until(lambda: EVENT in followed.names)
    assert followed.names == [CHECK, EVENT]  # somebody else's is
    assert followed.stream.counts.read == 2
    assert followed.reports == []
    assert fake.tell()["enabled"] == [EVENT]


@pytest.mark.usefixtures("ended")
async def test_a_check_that_fails_proves_nothing(fake: FakeProcess) -> None:
    async with following(fake, EVENT) as followed:
        fake.tell(faults=["error-reply:query-name"])
        await until(lambda: followed.reports)
    [(text, proven)] = followed.reports
    assert text.startswith("no record in 0.05 s from ")
    assert not proven


async def test_a_backend_that_qmp_does_not_switch_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrival, "SILENCE_S", 0)
    feed: Any = SimpleNamespace(source="a relay daemon", behind=lambda: 0)
    reports: list[tuple[str, bool]] = []
    session = cast(Any, None)  # which is not asked for anything
    await Arrival(session, feed, Backend.UST, lambda *told: reports.append(told)).watch()
    assert reports == [("no record in 0 s from a relay daemon", False)]


def test_an_inherited_file_is_not_the_log(
    qtctl: Qtctl, bare: Callable[..., FakeProcess], folder: Path
) -> None:
    fake = bare()
    log = json.loads(qtctl("-t", fake.address, "--json", "status").said(0).out)["log"]
    text = f"/dev/null (or {folder}/lock, if logfile of the human monitor moved it there)"
    assert log == {
        "reach": "null",
        "target": text,
        "certain": False,
        "others": [f"{folder}/lock"],
    }
    assert f"log goes to\t{text}\n" in qtctl("-t", fake.address, "status").said(0).out
    assert f"the log goes to {text}" in qtctl("-t", fake.address, "doctor").out
    run = qtctl.start("-t", fake.address, "tail", EVENT, "--max-events", "1")
    run.said("from a spool (the log went to /dev/null); Ctrl-C gives back")
    fake.tell(emit=[LINE])
    assert EVENT in run.finish().said(0, "1 read, 1 shown").out
    assert (folder / "lock").read_bytes() == b""
    assert not qtctl.spools()


def test_a_log_that_logfile_moved_is_found_and_left_there(
    qtctl: Qtctl, bare: Callable[..., FakeProcess], make_fake: MakeFake, folder: Path
) -> None:
    for fake, found in ((bare(), "(or "), (make_fake(name="with-d"), "(a guess: ")):
        moved = Path(f"{fake.address}.moved")
        hmp(fake, f"logfile {moved}")
        status = qtctl("-t", fake.address, "status").said(0).out
        assert str(moved) in status
        assert found in status
        run = qtctl.start("-t", fake.address, "tail", EVENT, "--max-events", "1")
        run.said(f"from {moved}; Ctrl-C gives back")
        fake.tell(emit=[LINE])
        assert EVENT in run.finish().said(0, "1 read, 1 shown").out
        fake.tell(emit=["after"])
        assert moved.read_text().endswith("after\n")
        assert fake.tell()["enabled"] == []
    assert not qtctl.leases()


def test_a_log_that_cannot_be_found_is_refused(
    qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    hmp(fake, f"logfile {folder}")  # fails, and the log goes nowhere
    ran = qtctl("-t", fake.address, "tail", EVENT, "--duration", "1s")
    ran.said(1, f"{folder}/qmp.log, which its command line names, is not open", "logfile FILE")
    assert fake.tell()["enabled"] == []


@pytest.mark.parametrize("place", ["moved", "/dev/null"])
def test_a_log_that_moves_while_it_is_followed(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, place: str
) -> None:
    run = qtctl.start("-t", fake.address, "tail", EVENT, "--max-events", "1")
    run.said("Ctrl-C gives back")
    moved = folder / place
    qtctl("-t", fake.address, "hmp", f"logfile {moved}").said(0)  # through the tail
    if place == "moved":
        eventually(lambda: CHECK in moved.read_text(), "a check")
        fake.tell(emit=[LINE])  # before qtctl has seen the move
        ran = run.finish(None).said(0, f"the log moved to {moved}\n", "1 shown")
        assert "unknown number lost" not in ran.err
    else:
        run.said(f"nothing arrives from {folder}/qmp.log: ")
        run.signal(signal.SIGINT)
        ran = run.finish(None).said(130, f"the log has left {folder}/qmp.log; it goes to perhaps")
        assert "1 times an unknown number lost" in ran.err
    assert fake.tell()["enabled"] == []
