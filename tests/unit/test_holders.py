"""Holders of a monitor, by sockets of this process and of a child, without connecting."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qtctl.model import Address, Guest, Holder
from qtctl.monitor import holders as module
from qtctl.monitor import processes
from qtctl.monitor.holders import holders
from qtctl.monitor.kernel_sockets import unix_sockets, unix_sockets_of
from qtctl.monitor.processes import process_name

ME = Guest(pid=os.getpid(), started=0, exe="", argv=())


class Net:
    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qtctl-")))

    def listen(self, path: str) -> socket.socket:
        listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(3)
        return listener

    def connect(self, path: str) -> socket.socket:
        client = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(path)
        return client

    def accept(self, listener: socket.socket) -> socket.socket:
        return self.stack.enter_context(listener.accept()[0])


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        yield Net(stack)


def here() -> Holder:
    return Holder(os.getpid(), process_name(os.getpid()))


@pytest.mark.parametrize("abstract", [False, True])
def test_only_an_accepted_connection_holds(net: Net, abstract: bool) -> None:
    path = f"\0qtctl-{net.folder.name}" if abstract else str(net.folder / "q")
    address = Address(path=path)
    assert holders(address) == ()
    listener = net.listen(path)
    assert holders(address) == ()
    net.connect(path)
    assert holders(address) == ()  # it waits in the backlog
    net.accept(listener)
    net.connect(path)
    assert holders(address) == (here(),)
    assert holders(address, ME) == (here(),)


def test_any_spelling_of_the_path(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(net.folder)
    listener = net.listen("q")
    net.connect("q")
    net.accept(listener)
    (net.folder / "link").symlink_to("q")
    for path in ("q", str(net.folder / "q"), "./q", "link"):
        assert holders(Address(path=path)) == (here(),)


def test_a_replaced_socket_does_not_count(net: Net) -> None:
    path = str(net.folder / "q")
    listener = net.listen(path)
    net.connect(path)
    net.accept(listener)
    Path(path).unlink()
    net.listen(path)
    assert holders(Address(path=path)) == ()


def test_the_client_is_another_process(net: Net) -> None:
    path = str(net.folder / "q")
    listener = net.listen(path)
    script = net.folder / "client.py"
    script.write_text(
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ninput()\n"
    )
    with subprocess.Popen([sys.executable, str(script), path], stdin=subprocess.PIPE) as client:
        net.accept(listener)
        found = holders(Address(path=path))
        client.kill()
    assert found == (Holder(client.pid, "client.py"),)


def test_a_holder_whose_process_is_not_visible(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(net.folder / "q")
    listener = net.listen(path)
    net.connect(path)
    net.accept(listener)
    monkeypatch.setattr(processes, "socket_inodes", lambda pid: None)
    assert holders(Address(path=path)) == (Holder(None, "an unknown process"),)


def test_without_sock_diag_a_holder_has_no_name(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(net.folder / "q")
    listener = net.listen(path)
    net.connect(path)
    monkeypatch.setattr(module, "unix_sockets", lambda: None)
    assert holders(Address(path=path), ME) == ()
    net.accept(listener)
    assert holders(Address(path=path), ME) == (Holder(None, "an unknown process"),)
    assert holders(Address(path=path)) == ()


def test_both_lists_of_sockets_agree(net: Net) -> None:
    path = str(net.folder / "with space\n")
    listener = net.listen(path)
    inode = os.fstat(listener.fileno()).st_ino
    (by_netlink,) = [s for s in unix_sockets(listening=True) or () if s.inode == inode]
    assert by_netlink.listening
    assert by_netlink.name == path
    net.listen(f"\0{net.folder.name}")
    names = {s.name: s.listening for s in unix_sockets_of(os.getpid())}
    assert names[f"\0{net.folder.name}"]


def test_tcp(net: Net) -> None:
    listener = net.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = listener.getsockname()[1]
    address = Address(host="127.0.0.1", port=port)
    net.stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    assert holders(address, ME) == ()
    net.stack.enter_context(listener.accept()[0])
    assert holders(address, ME) == (here(),)
    assert holders(address) == (here(),)
    assert holders(Address(host="127.0.0.1", port=1)) == ()


@pytest.mark.parametrize("path", ["/nonexistent", "/", "x" * 5000, "\0", "/a\0b"])
def test_odd_paths_have_no_holder(path: str) -> None:
    assert holders(Address(path=path), Guest(pid=4194304, started=0, exe="", argv=())) == ()


def test_it_is_quick(net: Net) -> None:
    path = str(net.folder / "q")
    listener = net.listen(path)
    net.connect(path)
    net.accept(listener)

    def seconds() -> float:
        start = time.process_time()
        holders(Address(path=path))
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.05
