"""Faulty clients of a lender, and a lender that is killed: no reply goes to another client."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from qtctl.errors import ConnectionFailed
from qtctl.model import Address
from qtctl.monitor.client import connect
from tests import needs, qemus
from tests.fake_qmp import FakeProcess
from tests.qemus import RealGuest
from tests.rawqmp import RawClient
from tests.running import Qtctl, Running, eventually, stopped

EVENT = "virtio_blk_handle_read"


def share(qtctl: Qtctl, address: str, *words: str) -> tuple[Running, str]:
    sharing = qtctl.start("-t", address, "share", *words)
    eventually(lambda: sharing.out.endswith(b"\n") or sharing.ended, "share prints its socket")
    return sharing, bytes(sharing.out).decode().strip()


@pytest.fixture
def lent(qtctl: Qtctl, fake: FakeProcess) -> Iterator[str]:
    """Lend the fake's monitor and yield the socket; check that the lender outlives the test."""
    sharing, path = share(qtctl, fake.address)
    yield path
    with RawClient(path) as client:
        assert client.ask(execute="query-name", id=1) == {"return": {"name": "demo"}, "id": 1}
    sharing.signal(signal.SIGINT)
    sharing.finish(None).said(130)


def test_garbage_is_answered_and_the_next_request_too(lent: str) -> None:
    with RawClient(lent) as client, RawClient(lent) as other:
        for garbage, words in (
            (b"nonsense\n", "JSON parse error"),
            (b"\x00\xff\xfe\n", "JSON parse error"),
            (b"[1]", "must be a JSON object"),
            (b'{"execute": "query-name", "execute": "stop"}', "duplicate key"),
            (b"[" * 1025, "nesting depth limit"),
        ):
            client.send(garbage + b"\n")
            answer = client.line()
            assert set(answer) == {"error"}
            assert words in answer["error"]["desc"]
            assert client.ask(execute="query-name", id="mine")["id"] == "mine"
            assert other.ask(execute="query-status", id=3)["id"] == 3


def test_ids_of_clients_never_collide(lent: str) -> None:
    with RawClient(lent) as one, RawClient(lent) as two:
        for number, (client, tag) in enumerate(((one, "x"), (two, "x"), (one, None), (two, [1]))):
            name = ("query-name", "query-status")[number % 2]
            client.send(json.dumps({"execute": name, "id": tag}).encode())
        assert [one.line(), one.line()] == [
            {"return": {"name": "demo"}, "id": "x"},
            {"return": {"name": "demo"}, "id": None},
        ]
        assert [two.line()["id"], two.line()["id"]] == ["x", [1]]


def test_many_requests_at_once_are_answered_in_order(lent: str) -> None:
    with RawClient(lent) as client:
        many = 300
        requests = [{"execute": "query-name", "id": number} for number in range(many)]
        client.send("".join(map(json.dumps, requests[:150])).encode() + b"bad\n")
        client.send("".join(map(json.dumps, requests[150:])).encode())
        ids = [client.line().get("id") for _ in range(many + 1)]
        assert ids == [*range(150), None, *range(150, many)]


def test_a_client_that_disconnects_within_a_message_harms_no_other(lent: str) -> None:
    with RawClient(lent) as other:
        for _ in range(5):
            with RawClient(lent) as client:
                client.send(b'{"execute": "trace-event-get-')
            with RawClient(lent) as client:
                client.send(json.dumps({"execute": "trace-event-get-state"}).encode() * 20)
            with RawClient(lent, negotiate=False):
                pass
            assert other.ask(execute="query-name", id=1)["id"] == 1


def test_requests_before_the_end_of_input_are_answered(lent: str) -> None:
    """As ``socat - UNIX:PATH`` sends it from a script."""
    with RawClient(lent, negotiate=False) as client:
        client.send(b'{"execute": "qmp_capabilities"}{"execute": "query-name"}')
        client.link.shutdown(socket.SHUT_WR)
        assert client.line() == {"return": {}}
        assert client.line() == {"return": {"name": "demo"}}
        assert client.line() is None


def test_a_request_of_ten_megabytes_is_forwarded(lent: str) -> None:
    with RawClient(lent) as client, RawClient(lent) as other:
        arguments = {"name": "x" * (10 << 20)}
        answer = client.ask(execute="trace-event-get-state", arguments=arguments, id=1)
        assert answer["error"]["desc"].startswith('unknown event "xxx')
        assert other.ask(execute="query-name", id=2)["id"] == 2
        client.send(b'{"execute": "' + b"y" * (17 << 20))
        assert client.line()["error"]["desc"] == "JSON token size limit exceeded"


def test_a_client_that_never_reads_is_disconnected(lent: str) -> None:
    with RawClient(lent) as lazy, RawClient(lent) as other:
        listing = json.dumps(
            {"execute": "trace-event-get-state", "arguments": {"name": "*"}}
        ).encode()
        lazy.link.setblocking(False)
        deadline = time.monotonic() + 200
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    lazy.link.send(listing)
                assert other.ask(execute="query-name", id=1)["id"] == 1
            pytest.fail("it was served for ever")


def test_another_user_is_refused(lent: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    needs.program("setpriv", "util-linux")
    path = Path(lent)
    opened = [folder for folder in path.parents if folder != Path("/")]
    modes = {folder: folder.stat().st_mode & 0o777 for folder in opened}
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "print(s.recv(100))"
    )
    connect = [sys.executable, "-c", code, str(path)]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    closed = subprocess.run([*nobody, *connect], capture_output=True, text=True, check=False)
    assert "PermissionError" in closed.stderr
    try:
        for folder in opened:
            folder.chmod(0o755)
        path.chmod(0o666)
        ran = subprocess.run([*nobody, *connect], capture_output=True, text=True, check=False)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert ran.stdout == "b''\n" or "ConnectionResetError" in ran.stderr, ran


def test_an_unsafe_folder_is_not_used_for_lending(qtctl: Qtctl, fake: FakeProcess) -> None:
    """A folder that others can write to, or another user's socket in it, is not trusted."""
    sharing, path = share(qtctl, fake.address)
    folder = Path(path).parent
    folder.chmod(0o777)
    qtctl("-t", fake.address, "list", EVENT).said(4, "in use by")
    folder.chmod(0o700)
    qtctl("-t", fake.address, "list", EVENT).said(0)
    sharing.signal(signal.SIGINT)
    sharing.finish(None)


def test_a_stale_socket_is_ignored_and_removed(qtctl: Qtctl, fake: FakeProcess) -> None:
    sharing, path = share(qtctl, fake.address)
    sharing.signal(signal.SIGKILL)
    sharing.finish(None)
    assert Path(path).exists()
    qtctl("-t", fake.address, "list", EVENT).said(0)
    with socket.socket(socket.AF_UNIX) as other:  # of another guest's lender that was killed
        other.bind(str(Path(path).with_name("lent-0-0")))
    sharing, again = share(qtctl, fake.address)
    assert again == path
    assert [one.name for one in Path(path).parent.iterdir()] == [Path(path).name]
    sharing.signal(signal.SIGINT)
    sharing.finish(None)


def test_a_stopped_lender_is_named(qtctl: Qtctl, fake: FakeProcess) -> None:
    sharing, _ = share(qtctl, fake.address)
    with stopped(sharing.pid):
        ran = qtctl("-t", fake.address, "list").said(4, f"lent by qtctl (pid {sharing.pid})")
        assert f"kill -CONT {sharing.pid}" in ran.err
    qtctl("-t", fake.address, "list", EVENT).said(0)
    sharing.signal(signal.SIGINT)
    sharing.finish(None)


@pytest.mark.parametrize("verb", ["list", "enable"])
def test_a_lender_killed_between_request_and_reply(
    qtctl: Qtctl, fake: FakeProcess, verb: str
) -> None:
    """A query is sent again; after a switch the state is read back."""
    sharing, _ = share(qtctl, fake.address)
    command = {"list": "trace-event-get-state", "enable": "trace-event-set-state"}[verb]
    fake.tell(faults=[f"late-reply:1:{command}*1"])
    asking = qtctl.start("-t", fake.address, verb, EVENT)
    asked = [command]
    eventually(lambda: fake_received(fake, asked), f"{command} was sent")
    sharing.signal(signal.SIGKILL)
    ran = asking.finish(None)
    assert ran.code == 0, ran
    listed = qtctl("-t", fake.address, "list", EVENT).said(0)
    assert listed.out.split()[1] == ("enabled" if verb == "enable" else "disabled")


def fake_received(fake: FakeProcess, commands: list[str]) -> bool:
    return any(call["execute"] in commands for call in fake.tell()["commands"])


def test_many_consoles_started_at_once_get_one_lender(qtctl: Qtctl, fake: FakeProcess) -> None:
    tails = [qtctl.start("-t", fake.address, "tail", EVENT, "--ndjson") for _ in range(6)]
    for tail in tails:
        tail.said("Ctrl-C gives back")
    told = json.loads(qtctl("-t", fake.address, "status", "--json").said(0).out)
    assert told["lender"]["pid"] in {tail.pid for tail in tails}
    others = {client["pid"] for client in told["lender"]["clients"]}
    assert others == {tail.pid for tail in tails} - {told["lender"]["pid"]}
    assert qtctl("-t", fake.address, "mark", "here").said(0).out == "marked on 6 consoles\n"
    # One after the other leaves, the lender always first.
    while tails:
        told = json.loads(qtctl("-t", fake.address, "status", "--json").said(0).out)
        lender = next(tail for tail in tails if tail.pid == told["lender"]["pid"])
        lender.signal(signal.SIGINT)
        lender.finish(None).said(130)
        assert b"here" in lender.out
        tails.remove(lender)
        if tails:
            fake_line = f"{EVENT} vdev 0x1 req 0x2 sector {len(tails)} nsectors 4"
            fake.tell(emit=[fake_line])
            for tail in tails:
                tail.wrote(f"sector {len(tails)}".encode())
    assert fake.tell()["enabled"] == []
    assert qtctl.leases() == []


def has_open(pid: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(one.resolve() == path for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_verb_that_waits_for_the_journal_releases_the_monitor(
    qtctl: Qtctl, fake: FakeProcess
) -> None:
    qtctl("-t", fake.address, "enable", EVENT).said(0)
    (lock,) = (qtctl.state / "qtctl").rglob("lock")
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        waiting = qtctl.start("-t", fake.address, "disable", EVENT)
        try:
            eventually(lambda: has_open(waiting.pid, lock), "it comes to the journal")
            with RawClient(fake.address) as client:  # whoever has the lock may need it
                assert "return" in client.ask(execute="query-name")
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
    assert "1 changed" in waiting.finish().said(0).out


async def test_a_released_monitor_is_not_lost(fake: FakeProcess) -> None:
    monitor = await connect(Address(path=fake.address))
    lost = asyncio.ensure_future(monitor.wait_lost())
    await monitor.release()
    with RawClient(fake.address) as client:
        assert "return" in client.ask(execute="query-name")
    assert (monitor.lost, lost.done()) == (False, False)
    assert await monitor.execute("query-name") == {"name": "demo"}
    assert (monitor.lost, lost.done()) == (False, False)
    await monitor.release()
    fake.stop()
    with pytest.raises(ConnectionFailed):
        await monitor.reacquire()
    assert await asyncio.wait_for(lost, 60) == "the other side closed the connection"
    assert monitor.lost
    await monitor.close()


async def test_an_unmodified_client_of_qemu_qmp(lent: str) -> None:
    client = QMPClient("unmodified")
    await client.connect(lent)
    assert await client.execute("query-name") == {"name": "demo"}
    states = await client.execute("trace-event-get-state", {"name": "*"})
    assert isinstance(states, list)
    assert len(states) > 4000
    names = await asyncio.gather(*(client.execute("query-name") for _ in range(50)))
    assert names == [{"name": "demo"}] * 50
    await client.disconnect()


@pytest.mark.qemu
def test_qmp_shell_on_a_real_guest(qtctl: Qtctl) -> None:
    with RealGuest(qemus.require("path")) as guest:
        sharing, path = share(qtctl, guest.address)
        shell = Path(sys.executable).with_name("qmp-shell")
        ran = subprocess.run(
            [str(shell), path],
            input="query-status\ntrace-event-get-state name=virtio_blk_handle_read\nstop\n\n",
            capture_output=True,
            text=True,
            timeout=60,
            env=qtctl.environment(),
            check=False,
        )
        assert '"status": "running"' in ran.stdout.replace("'", '"'), ran
        assert "virtio_blk_handle_read" in ran.stdout
        assert "STOP" in ran.stdout
        qtctl("-t", guest.address, "qmp", "query-status").said(0)
        sharing.signal(signal.SIGINT)
        sharing.finish(None).said(130)
