"""Real QEMUs: facts that qtctl finds without connecting to them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qtctl.backends.detect import backends_from, signs_of_process, undecided
from qtctl.backends.table import TABLE
from qtctl.model import Address, Backend, Guest, Holder
from qtctl.monitor.guests import find_guest, running_guests
from qtctl.monitor.holders import holders
from qtctl.monitor.processes import process_name, same_process
from tests.qemus import LABELS, RealGuest, require
from tests.running import guest_by_pid

pytestmark = pytest.mark.qemu


def connected(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.settimeout(60)
        client.connect(path)
        client.recv(1)
    except BaseException:
        client.close()
        raise
    return client


def eventually(found: tuple[Holder, ...], address: Address, guest: Guest) -> None:
    deadline = time.monotonic() + 60
    while holders(address, guest) != found:
        assert time.monotonic() < deadline, holders(address, guest)
        time.sleep(0.01)


@pytest.mark.parametrize("label", LABELS)
def test_a_guest_is_found_with_its_monitor_and_holder(label: str) -> None:
    qemu = require(label)
    with RealGuest(qemu, extra=["-name", f"guest=qtctl {label},debug-threads=on"]) as real:
        guest = guest_by_pid(real.pid)
        assert guest in running_guests()
        assert guest.name == f"qtctl {label}"
        assert guest.version == ".".join(map(str, qemu.version))
        assert guest.uid == os.geteuid()
        assert (guest.root == "") == (qemu.root is None)
        (address,) = guest.addresses
        assert address.path is not None
        assert Path(address.path).samefile(real.address)
        for target in (real.pid, f"qtctl {label}", address, Address(path=real.address)):
            assert find_guest(target) == guest
        eventually((), address, guest)
        with closing(connected(address.path)):
            me = Holder(os.getpid(), process_name(os.getpid()))
            assert holders(address, guest) == (me,)
            assert holders(Address(path=real.address)) == (me,)
            with closing(socket.socket(socket.AF_UNIX)) as waiting:
                waiting.connect(address.path)
                assert holders(address, guest) == (me,)
        eventually((), address, guest)
    assert not same_process(guest.pid, guest.started)
    assert find_guest(Address(path=real.address)) is None


@pytest.mark.parametrize("label", [label for label in LABELS if label != "built"])
def test_distribution_builds_have_the_log_backend_only(label: str) -> None:
    with RealGuest(require(label)) as real:
        signs = signs_of_process(guest_by_pid(real.pid))
        assert backends_from(signs) == (Backend.LOG,)
        assert undecided(signs) == ()


def test_every_backend_that_was_built_in_is_seen() -> None:
    qemu = require("built")
    config = Path(qemu.command[0]).parent / "config-host.h"
    if not config.exists():
        pytest.skip("the QEMU in $QTCTL_TEST_QEMU is not in its build folder")
    built = set(re.findall(r"#define CONFIG_TRACE_(\w+)", config.read_text()))
    expected = {Backend(name.lower()) for name in built if name.lower() in TABLE}
    with RealGuest(qemu) as real:
        guest = guest_by_pid(real.pid)
        signs = signs_of_process(guest)
        if not signs[Backend.FTRACE]:
            expected.discard(Backend.FTRACE)  # tracefs is not mounted, or not ours to write
        assert set(backends_from(signs)) == expected
        assert undecided(signs) == ()

        def seconds() -> float:
            start = time.process_time()
            signs_of_process(guest)
            return time.process_time() - start

        assert min(seconds() for _ in range(3)) < 0.5


@contextmanager
def daemon(folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[int]:
    qemu = require("path")
    fixed = ("-S", "-nodefaults", "-display", "none", "-daemonize", "-pidfile", "pid")
    subprocess.run([*prefix, *qemu.command, *fixed, *options], cwd=folder, check=True, timeout=60)
    pid = int((folder / "pid").read_text())
    started = guest_by_pid(pid).started
    try:
        yield pid
    finally:
        os.kill(pid, 15)
        deadline = time.monotonic() + 60
        while same_process(pid, started) and time.monotonic() < deadline:
            time.sleep(0.01)


def loopback() -> str:
    """Return a name of this machine; one without ``/etc/hosts`` has none but its address."""
    try:
        socket.getaddrinfo("localhost", None, socket.AF_INET)
    except socket.gaierror:
        return "127.0.0.1"
    return "localhost"


def test_a_daemonized_guest_with_every_kind_of_address(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    host = loopback()
    name = f"qtctl-test-{os.getpid()}"
    options = (
        *("-qmp", "unix:q,server,nowait"),
        *("-qmp", f"tcp:{host}:{port},server=on,wait=off"),
        *("-chardev", f"socket,id=a,path={name},abstract=on,tight=off,server=on,wait=off"),
        *("-mon", "a,mode=control"),
        *("-chardev", "socket,id=n,path=n,server=on,wait=off", "-qmp", "chardev:n"),
    )
    with daemon(tmp_path, *options) as pid:
        guest = guest_by_pid(pid)
        paths = [address.path for address in guest.addresses]
        padded = f"\0{name}".ljust(108, "\0")
        assert paths == [str(tmp_path / "q"), None, padded, str(tmp_path / "n")]
        assert guest.addresses[1] == Address(host=host, port=port)
        assert guest in running_guests()
        for address in guest.addresses:
            assert find_guest(address) == guest
            place = address.path or (address.host, address.port)
            family = socket.AF_UNIX if address.path else socket.AF_INET
            with closing(socket.socket(family)) as client:
                client.settimeout(60)
                client.connect(place)
                client.recv(1)
                assert [holder.pid for holder in holders(address, guest)] == [os.getpid()]


def test_the_second_guest_on_one_path_has_it(tmp_path: Path) -> None:
    option = ("-qmp", f"unix:{tmp_path}/q,server=on,wait=off")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with daemon(folders[0], *option) as first, daemon(folders[1], *option) as second:
        found = find_guest(Address(path=f"{tmp_path}/q"))
        assert found is not None
        assert found.pid == second
        assert guest_by_pid(first).addresses == ()


def test_a_guest_in_namespaces_of_its_own(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare(1)")
    # In a chroot, / is no mount whose propagation could be changed.
    prefix = (unshare, "-mn", "--propagation", "unchanged")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("new namespaces are not permitted here")
    path = str(tmp_path / "q")
    with daemon(tmp_path, "-qmp", f"unix:{path},server=on,wait=off", prefix=prefix) as pid:
        guest = guest_by_pid(pid)
        assert guest.root == f"/proc/{pid}/root"
        assert guest.addresses == (Address(path=path),)
        assert find_guest(Address(path=path)) == guest
        with closing(connected(path)):
            assert [holder.pid for holder in holders(guest.addresses[0], guest)] == [os.getpid()]
