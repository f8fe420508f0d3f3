"""Whether the guest that was meant answers a connection, by sockets of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qtctl.errors import ConnectionFailed
from qtctl.model import Address, Guest
from qtctl.monitor import client, identity
from qtctl.monitor.identity import is_answered_by, leads_through_ended, wrong_guest
from qtctl.monitor.kernel_sockets import TcpSocket, tcp_listeners, tcp_sockets
from qtctl.monitor.processes import start_ticks
from qtctl.monitor.rendezvous import Rendezvous, rendezvous_of
from tests.fake_qmp import FakeProcess

SLEEPER = "import sys; print(flush=True); sys.stdin.read()"
ACCEPTER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as server, server.accept()[0]:
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def process(stack: ExitStack, code: str, listener: socket.socket | None = None) -> Guest:
    """Start a Python process, wait for its first line, and describe it as a guest."""
    fds = () if listener is None else (listener.fileno(),)
    started = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, fds)],
            pass_fds=fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    )
    assert started.stdout is not None
    started.stdout.readline()
    return described(started.pid)


def described(pid: int) -> Guest:
    started = start_ticks(pid)
    assert started is not None
    return Guest(pid=pid, started=started, exe="", argv=(), uid=os.geteuid())


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_the_process_that_took_the_connection_answers(
    kind: str, stack: ExitStack, tmp_path: Path
) -> None:
    """One process makes the socket and another serves it, as under libvirt."""
    family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
    listener = stack.enter_context(socket.socket(family))
    if kind == "tcp":
        listener.bind(("127.0.0.1", 0))
    else:
        listener.bind(f"{tmp_path}/q" if kind == "unix" else f"\0{tmp_path}")
    listener.listen()
    link = stack.enter_context(socket.socket(family))
    link.connect(listener.getsockname())
    other = process(stack, SLEEPER)
    if kind == "tcp":
        assert is_answered_by(link, other) is None  # nobody has taken it yet
    server = process(stack, ACCEPTER, listener)
    assert is_answered_by(link, server) is True
    assert is_answered_by(link, other) is False
    reused = Guest(pid=server.pid, started=server.started - 1, exe="", argv=())
    assert is_answered_by(link, reused) is False


def test_the_listening_process_is_known_before_it_accepts(stack: ExitStack, tmp_path: Path) -> None:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "q"))
    listener.listen()
    link = stack.enter_context(socket.socket(socket.AF_UNIX))
    link.connect(str(tmp_path / "q"))
    assert is_answered_by(link, described(os.getpid())) is True


def test_sockets_that_are_not_visible_leave_it_undecided(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sockets of another user's process are not visible; the owner of a TCP socket is."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    link = stack.enter_context(socket.create_connection(listener.getsockname()))
    stack.enter_context(listener.accept()[0])
    monkeypatch.setattr(identity, "socket_inodes", lambda pid: None)
    me = described(os.getpid())
    assert is_answered_by(link, me) is None
    other_user = Guest(pid=me.pid, started=me.started, exe="", argv=(), uid=me.uid + 1)
    assert is_answered_by(link, other_user) is False


async def test_the_name_decides_where_the_kernel_shows_nothing(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = stack.enter_context(FakeProcess("--tcp", "127.0.0.1:0", "--name", "vm"))
    host, port = fake.address.split(":")
    address = Address(host=host, port=int(port))
    monkeypatch.setattr(identity, "is_answered_by", lambda sock, guest: None)
    for name in ("vm", None):
        guest = Guest(pid=fake.pid, started=0, exe="", argv=(), name=name)
        monitor = await client.connect(address, guest)
        assert monitor.guest_pid == fake.pid
        await monitor.close()
    other = Guest(pid=os.getpid(), started=0, exe="", argv=(), name="other")
    with pytest.raises(ConnectionFailed, match="leads to a guest named 'vm'"):
        await client.connect(address, other)
    monitor = await client.connect(address)  # the one that was refused has let go
    await monitor.close()


def test_tcp_sockets_as_the_kernel_lists_them(stack: ExitStack) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    listener = stack.enter_context(
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    port = listener.getsockname()[1]
    link = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    served = stack.enter_context(listener.accept()[0])
    rows = tcp_sockets()
    assert rows is not None
    ours = ("127.0.0.1", link.getsockname()[1])
    inode = os.fstat(served.fileno()).st_ino
    row = TcpSocket(("127.0.0.1", port), ours, False, True, os.geteuid(), inode)
    assert row in rows
    (listening,) = [r for r in rows if r.listening and r.local[1] == port]
    assert listening.inode == os.fstat(listener.fileno()).st_ino


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", {1, 3, 5}),
        ("::1", {2, 3, 5}),
        ("localhost", {1, 2, 3, 5}),
        ("127.0.0.2", {3, 4, 5}),
        ("192.0.2.1", {3, 5}),
        ("some.host", {1, 2, 3, 4, 5}),
    ],
)
def test_sockets_that_may_accept_a_connection(host: str, found: set[int]) -> None:
    locals_ = ("127.0.0.1", "::1", "0.0.0.0", "127.0.0.2", "::")
    rows = [
        TcpSocket((local, 4444), ("0.0.0.0", 0), True, False, 0, number)
        for number, local in enumerate(locals_, 1)
    ]
    rows += [row._replace(local=(row.local[0], 4445), inode=9) for row in rows]
    rows += [row._replace(listening=False, inode=9) for row in rows]
    rows_found = tcp_listeners(rows, Address(host=host, port=4444))
    assert {row.inode for row in rows_found} == found


def name_at(host: str, port: int) -> str:
    rendezvous = rendezvous_of(Address(host=host, port=port))
    assert isinstance(rendezvous, Rendezvous)
    return rendezvous.name


def test_two_processes_on_one_port_have_two_lenders(stack: ExitStack) -> None:
    """QEMU listens for localhost on both loopback addresses; two QEMUs can have one each."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = four.getsockname()[1]
    assert name_at("127.0.0.1", port) == name_at("localhost", port)
    assert name_at("::1", port) != name_at("127.0.0.1", port)
    six = stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6))
    assert name_at("::1", port) == name_at("127.0.0.1", port) == name_at("localhost", port)
    process(
        stack,
        SLEEPER.replace("print", f"import socket; s = socket.socket(fileno={six.fileno()}); print"),
        six,
    )
    six.close()
    assert len({name_at(host, port) for host in ("::1", "127.0.0.1", "localhost")}) == 3


def test_a_path_through_a_process_that_has_ended() -> None:
    me = described(os.getpid())
    ended = Guest(pid=me.pid, started=me.started - 1, exe="", argv=())
    through = Address(path=f"/proc/{me.pid}/root/run/q")
    assert leads_through_ended(through, ended)
    assert not leads_through_ended(through, me)
    assert not leads_through_ended(Address(path="/run/q"), ended)
    assert not leads_through_ended(Address(path=f"/proc/{me.pid + 1}/cwd/q"), ended)
    assert not leads_through_ended(Address(host="127.0.0.1", port=1), ended)


@pytest.mark.parametrize(("uid", "before"), [(0, ""), (1000, "sudo ")])
def test_the_hint_fits_the_user_who_runs_qtctl(
    uid: int, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    me = described(os.getpid())
    error = wrong_guest(Address(host="127.0.0.1", port=4444), me, "guest 1")
    assert error.hint == f"{before}nsenter -t {me.pid} -n qtctl -t {me.pid} ..."
    assert str(me.pid) in error.message
    assert "tcp:127.0.0.1:4444 leads to guest 1" in error.message
    by_path = wrong_guest(Address(path="/q"), me, "guest 1").hint
    assert by_path == (
        f"sudo qtctl -t {me.pid} ..." if uid else "qtctl ps, for its other addresses"
    )
