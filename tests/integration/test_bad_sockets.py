"""Unusable sockets: the error names the target and its cause, with its exit code, in time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs, qemus
from tests.fake_qmp import FakeProcess
from tests.qemus import RealGuest
from tests.running import Qtctl, Ran, Running, eventually, stopped

from .conftest import MakeFake

EVENT = "virtio_blk_handle_read"
AS_EVERYBODY = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")


@contextlib.contextmanager
def listening(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(path))
        if kind == socket.SOCK_STREAM:
            server.listen(1)
        yield server


@contextlib.contextmanager
def client(address: str) -> Iterator[socket.socket]:
    """Hold a monitor as another program does: connected and greeted."""
    with socket.socket(socket.AF_UNIX) as link, link.makefile("rb") as lines:
        link.connect(address)
        assert b"QMP" in lines.readline()
        yield link


def collect(runs: dict[str, Running]) -> dict[str, Ran]:
    return {name: run.finish() for name, run in runs.items()}


def test_targets_that_are_no_usable_socket(qtctl: Qtctl, folder: Path) -> None:
    """None of these may take long, and each error has its own cause."""
    (folder / "file").write_text("not a socket")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    with listening(folder / "stale"):
        pass
    long = folder / ("x" * 100) / "qmp.sock"
    wanted = {
        str(folder / "missing"): (4, "no such socket"),
        str(folder / "missing" / "deeper"): (4, "no such socket"),
        str(folder / "stale"): (4, "nobody listens"),
        str(folder / "file"): (4, "not a socket"),
        str(folder / "file" / "below"): (4, "ot a directory"),
        str(folder / "folder"): (4, "not a socket"),
        str(folder / "loop"): (4, "symbolic links"),
        str(folder / "datagram"): (4, "not a stream socket"),
        str(long): (2, "bytes"),
        "unix:": (2, "empty"),
        "127.0.0.1:1": (4, "nobody listens"),
        "tcp:127.0.0.1:99999": (2, "1 to 65535"),
        "127.0.0.1:0": (2, "1 to 65535"),
        "tcp:127.0.0.1:http": (2, "HOST:PORT"),
        "[::1]": (2, "port"),
        "telnet:127.0.0.1:4444": (2, "not plain QMP"),
        "4194305": (2, "pid"),
        str(os.getpid()): (4, str(os.getpid())),
        "no guest has this name": (4, "no guest has this name"),
        "\x1b[31mred": (4, "\\x1b[31mred"),
    }
    with listening(folder / "datagram", socket.SOCK_DGRAM):
        runs = {target: qtctl.start("-t", target, "list") for target in wanted}
        for target, ran in collect(runs).items():
            code, cause = wanted[target]
            ran.said(code, cause)
            assert "\x1b" not in ran.err
            assert not ran.out
            if "\x1b" not in target:
                assert target.removeprefix("unix:").removeprefix("tcp:") in ran.err, ran


def test_the_variables_name_a_target_too(qtctl: Qtctl, folder: Path) -> None:
    for name in ("QTCTL_TARGET", "QMP_SOCKET"):
        where = str(folder / "gone")
        qtctl("list", env={name: where}).said(4, where)
    both = {"QTCTL_TARGET": str(folder / "first"), "QMP_SOCKET": str(folder / "second")}
    qtctl("list", env=both).said(4, "first")
    qtctl("-t", str(folder / "third"), "list", env=both).said(4, "third")


def test_a_socket_that_may_not_be_opened(qtctl: Qtctl, fake: FakeProcess) -> None:
    """Root may open anything unless it gives up that one right."""
    if os.geteuid() == 0:
        needs.program("setpriv", "util-linux")
    Path(fake.address).chmod(0)
    before = AS_EVERYBODY if os.geteuid() == 0 else ()
    ran = qtctl("-t", fake.address, "list", before=before)
    ran.said(4, fake.address, "permission denied", "the user that runs the guest")


def test_a_monitor_in_use_names_its_holder(qtctl: Qtctl, make_fake: MakeFake, folder: Path) -> None:
    """Both cases: a connection that is not greeted, and a full backlog."""
    held, full = make_fake(name="held"), make_fake(name="full")
    with client(held.address), client(full.address), contextlib.ExitStack() as waiting:
        for _ in range(2):
            link = waiting.enter_context(socket.socket(socket.AF_UNIX))
            link.connect(full.address)
        runs = {verb: qtctl.start("-t", held.address, verb) for verb in ("list", "status")}
        runs["tail"] = qtctl.start("-t", held.address, "tail", EVENT)
        runs["full"] = qtctl.start("-t", full.address, "list")
        runs["doctor"] = qtctl.start("-t", held.address, "doctor")
        found = collect(runs)
    for verb in ("list", "status", "tail"):
        found[verb].said(4, held.address, "in use by", str(os.getpid()), "second -qmp")
    found["full"].said(4, full.address, "in use by", str(os.getpid()))
    assert found["doctor"].code == 1
    assert str(os.getpid()) in found["doctor"].out
    # None of them holds a place in the queue any more.
    qtctl("-t", held.address, "list", EVENT).said(0)
    assert not held.tell()["enabled"]


def test_the_holder_left_meanwhile(qtctl: Qtctl, fake: FakeProcess) -> None:
    """Waiting for a greeting is not in vain when the holder leaves in time."""
    with client(fake.address):
        run = qtctl.start("-t", fake.address, "list", EVENT)
        # Two are asyncio's own.
        eventually(lambda: _sockets(run.pid) > 2, "qtctl waits in the queue")
    assert run.finish().code == 0


def _sockets(pid: int) -> int:
    with contextlib.suppress(OSError):
        links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(str(link).startswith("socket:") for link in links)
    return 0


def test_no_guest_at_all(qtctl: Qtctl) -> None:
    """A process-id namespace of its own has no guests, whatever else runs on this machine."""
    # Not --mount-proc: it makes / private, which the root of a chroot, no mount, cannot be.
    mounted = 'mount --make-private /proc && mount -t proc proc /proc && exec "$@"'
    unshare = ("unshare", "--pid", "--fork", "--mount", "--propagation", "unchanged")
    alone = (*unshare, "sh", "-c", mounted, "sh")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a namespace of its own needs root and unshare")
    run = qtctl.start("list", before=alone)
    run.finish().said(4, "no QEMU guest was found", "qtctl demo")
    ran = qtctl("ps", "--json", before=alone).said(0)
    assert json.loads(ran.out) == {"guests": []}


@pytest.mark.qemu
def test_several_guests_and_no_target(qtctl: Qtctl) -> None:
    qemu = qemus.require("path")
    with RealGuest(qemu, extra=("-name", "first-guest")) as one, RealGuest(qemu) as two:
        ran = qtctl("list", EVENT)
        ran.said(2, "guests are running", "first-guest", one.address, two.address, "qtctl -t PID")
        assert str(one.pid) in ran.err
        assert str(two.pid) in ran.err
        qtctl("-t", str(two.pid), "list", EVENT).said(0)
        qtctl("-t", "first-guest", "list", EVENT).said(0)


@pytest.mark.qemu
def test_a_real_guest_that_cannot_answer(qtctl: Qtctl) -> None:
    """Stopped, the human monitor in QMP's place, and killed or quitting under a running verb."""
    hmp = ("-chardev", "socket,id=h,path={dir}/hmp.sock,server=on,wait=off", "-mon", "chardev=h")
    with RealGuest(qemus.require("path"), extra=hmp) as guest:
        human = str(guest.directory / "hmp.sock")
        with stopped(guest.pid):
            runs = {
                "list": qtctl.start("-t", guest.address, "list"),
                "tail": qtctl.start("-t", guest.address, "tail", EVENT),
                "pid": qtctl.start("-t", str(guest.pid), "enable", EVENT),
                "hmp": qtctl.start("-t", human, "list"),
            }
            found = collect(runs)
        for name in ("list", "tail", "pid"):
            found[name].said(4, f"guest {guest.pid}", guest.address, "stopped", "kill -CONT")
        found["hmp"].said(4, "stopped")
        qtctl("-t", human, "list").said(4, human, "does not speak QMP", "not HMP")
        listed = qtctl("-t", guest.address, "list", "--json", "--state", "enabled").said(0)
        assert json.loads(listed.out)["events"] == []


@pytest.mark.qemu
@pytest.mark.parametrize("how", ["quit", "kill", "terminate"])
def test_a_guest_that_ends_under_a_stream(qtctl: Qtctl, how: str) -> None:
    extra = ("-qmp", "unix:{dir}/other.sock,server=on,wait=off")
    with RealGuest(qemus.require("path"), extra=extra) as guest:
        tail = qtctl.start("-t", guest.address, "tail", EVENT)
        wait = qtctl.start("-t", str(guest.directory / "other.sock"), "wait", EVENT)
        tail.said("Ctrl-C gives back")
        wait.said("Ctrl-C gives back")
        wait.signal(2)
        wait.finish().said(130)
        if how == "quit":
            qtctl("-t", str(guest.directory / "other.sock"), "qmp", "quit", limit=None)
        elif how == "kill":
            guest.process.kill()
        else:
            guest.process.terminate()
        tail.finish(None).said(5, "lost", guest.address, "closed the connection")
    assert not qtctl.leases()
    assert not qtctl.spools()


@pytest.mark.qemu
def test_a_guest_that_is_stopped_under_a_stream(qtctl: Qtctl) -> None:
    """What could not be given back stays in the journal; the next run does it and says so."""
    with RealGuest(qemus.require("path"), extra=("-D", "{dir}/log")) as guest:
        tail = qtctl.start("-t", guest.address, "tail", EVENT)
        tail.said("Ctrl-C gives back")
        with stopped(guest.pid):
            tail.signal(2)
            # Nothing but a time-out can tell.
            ran = tail.finish(None)
            assert ran.code in (5, 130)
            assert "no answer" in ran.err
            assert ran.seconds < 8
        assert len(qtctl.leases()) == 1
        qtctl("-t", guest.address, "list", EVENT).said(0, "gave back 1 event")
        assert not qtctl.leases()
        listed = qtctl("-t", guest.address, "list", "--state", "enabled").said(0)
        assert not listed.out
