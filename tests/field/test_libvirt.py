"""A domain of a real libvirtd, whose monitor that holds and whose log goes to virtlogd.

As root, on qemu:///system: on the daemons that run, or on own ones, which end with the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtctl.monitor import libvirt
from tests import needs, pages
from tests.qemus import boot_sector, require
from tests.running import Qtctl, Running, eventually

DOMAIN = f"qtctl-test-{os.getpid()}"
SOCKET = Path("/run/libvirt/libvirt-sock")
LOGS = Path("/var/log/libvirt/qemu")
#: The first connection has libvirtd try each QEMU that is installed.
_START_SECONDS = 300.0
_XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def virsh(*words: str, seconds: float = 60.0) -> str:
    """Run virsh, and return what it printed."""
    call = [needs.program("virsh", "libvirt-clients"), "-q", "-c", "qemu:///system", *words]
    return subprocess.run(
        call, capture_output=True, text=True, check=True, timeout=seconds
    ).stdout.strip()


class Daemons:
    """libvirtd and virtlogd of the tests' own; where libvirtd runs already, ``own`` is false."""

    def __init__(self) -> None:
        self.own = not self.answers()
        self._running: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def answers() -> bool:
        """Return whether a libvirtd answers."""
        with contextlib.suppress(subprocess.SubprocessError):
            virsh("version", seconds=_START_SECONDS)
            return True
        return False

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a daemon."""
        program = needs.program(name, "libvirt-daemon-system")
        quiet = subprocess.DEVNULL
        daemon = subprocess.Popen([program], stdin=quiet, stdout=quiet, stderr=quiet)
        self._running.append(daemon)
        return daemon

    def restart(self, pause_s: float) -> None:
        """End libvirtd, and start another after a pause."""
        self.end_one()
        time.sleep(pause_s)
        self.start("libvirtd")
        eventually(self.answers, "libvirtd answers", _START_SECONDS)

    def end_one(self) -> None:
        """End the daemon that was started last."""
        daemon = self._running.pop()
        daemon.terminate()
        daemon.wait(60)

    def end(self) -> None:
        """End all that were started."""
        while self._running:
            self.end_one()


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    if os.geteuid() != 0:
        pytest.skip("libvirtd's system daemon needs root")
    needs.program("libvirtd", "libvirt-daemon-system")
    try:
        libvirt.load()
    except ImportError:
        needs.packaged("the Python module libvirt", "python3-libvirt")
    require("path")
    found = Daemons()
    try:
        if found.own:
            LOGS.mkdir(parents=True, exist_ok=True)
            found.start("virtlogd")
            found.start("libvirtd")
            eventually(found.answers, "libvirtd answers", _START_SECONDS)
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def domain(daemons: Daemons) -> Iterator[str]:
    """Run a domain that reads its disk for ever, one for all: to start one takes libvirtd long."""
    folder = Path(tempfile.mkdtemp(prefix="qtctl-libvirt-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        disk, xml = folder / "boot.img", folder / "domain.xml"
        disk.write_bytes(boot_sector("virtio-blk", busy=False).ljust(1 << 20, b"\0"))
        emulator = shutil.which("qemu-system-x86_64")
        xml.write_text(_XML.format(name=DOMAIN, emulator=emulator, disk=disk))
        virsh("create", str(xml), seconds=_START_SECONDS)
        try:
            yield f"libvirt:{DOMAIN}"
        finally:
            with contextlib.suppress(subprocess.SubprocessError):  # a test ends it
                virsh("destroy", DOMAIN)
            for log in LOGS.glob(f"{DOMAIN}.log*"):
                log.unlink()
    finally:
        shutil.rmtree(folder)


def hmp(line: str) -> str:
    return virsh("qemu-monitor-command", DOMAIN, "--hmp", line)


def enabled(run: Qtctl, target: str) -> list[str]:
    ran = run("-t", target, "list", "--state", "enabled", "--json", limit=None)
    return [one["name"] for one in json.loads(ran.out)["events"]] if ran.code == 0 else []


def log_is_virtlogds() -> bool:
    """Return whether a line that the domain logs now arrives in virtlogd's file."""
    log = LOGS / f"{DOMAIN}.log"
    before = log.stat().st_size
    hmp("trace-event virtio_blk_handle_read on")
    try:
        eventually(lambda: b":virtio_blk_handle_read" in log.read_bytes()[before:], "a line")
    finally:
        hmp("trace-event virtio_blk_handle_read off")
    return True


def pid_of_domain() -> int:
    return int(Path(f"/run/libvirt/qemu/{DOMAIN}.pid").read_text())


def followed(run: Qtctl, target: str) -> Running:
    """Start a tail, and wait for its first records."""
    tail = run.start("-t", target, "tail", "virtio_blk_handle_read", "--time", "none")
    eventually(lambda: tail.out.count(b"sector=0") > 3, "records")
    return tail


def given_back(run: Qtctl) -> bool:
    """Check that nothing of qtctl's is left on the domain."""
    assert run.leases() == []
    links = [str(one.readlink()) for one in Path(f"/proc/{pid_of_domain()}/fd").iterdir()]
    assert not [one for one in links if "qtctl-spool" in one]
    return log_is_virtlogds()


def test_events_are_listed_and_switched_and_the_definition_stays(run: Qtctl, domain: str) -> None:
    before = virsh("dumpxml", DOMAIN)
    guests = json.loads(run("ps", "--json", limit=None).said(0).out)["guests"]
    [found] = [one for one in guests if one["name"] == DOMAIN]
    assert found["monitors"][0]["holders"][0]["name"] == "libvirtd"
    assert len(run("-t", domain, "list", limit=None).said(0).out.splitlines()) > 4000
    run("-t", DOMAIN, "enable", "virtio_blk_*", limit=None).said(0)
    assert "virtio_blk_handle_read" in enabled(run, str(found["pid"]))
    run("-t", domain, "restore", limit=None).said(0)
    assert enabled(run, domain) == []
    assert virsh("dumpxml", DOMAIN) == before
    ran = run("-t", domain, "enable", "nosuch", limit=None)
    ran.said(3, "nosuch")
    assert "end" not in ran.err.split()


def test_it_is_followed_with_its_qmp_events_and_its_log_goes_back(run: Qtctl, domain: str) -> None:
    tail = followed(run, domain)
    virsh("suspend", DOMAIN)
    eventually(lambda: b"--- STOP" in tail.out, "a QMP event")
    virsh("resume", DOMAIN)
    # Others share libvirtd, and the guest, meanwhile.
    run("-t", domain, "list", "virtio_notify", limit=None).said(0)
    tail.signal(signal.SIGINT)
    tail.finish(None).said(130, "from a spool", "0 lost")
    assert given_back(run)
    out = str(run.home / "a.qtr")
    run("-t", domain, "record", "virtio_*", "-o", out, "--duration", "1s", limit=None).said(0)
    assert "virtio_blk_handle_read" in run("replay", out, limit=None).said(0).out


def test_a_console_works_on_it(run: Qtctl, domain: str) -> None:
    words = b"list virtio_notify\nenable virtio_notify\nhmp info status\nquit\n"
    with tempfile.TemporaryFile() as lines:
        lines.write(words)
        lines.seek(0)
        ran = run("-t", domain, "repl", stdin=lines, limit=None).said(0)
    assert "VM status: running" in ran.out
    assert enabled(run, domain) == []


def test_a_killed_qtctl_is_cleared_up_by_the_next_run(run: Qtctl, domain: str) -> None:
    for _ in range(3):
        tail = followed(run, domain)
        tail.signal(signal.SIGKILL)
        tail.finish(None)
        assert run.leases()
        run("-t", domain, "list", "virtio_notify", limit=None).said(0)
        assert enabled(run, domain) == []
        assert given_back(run)


def test_a_stream_goes_on_when_libvirtd_is_restarted(
    run: Qtctl, domain: str, daemons: Daemons
) -> None:
    if not daemons.own:
        pytest.skip("the libvirtd of this machine is not restarted")
    run("-t", domain, "enable", "virtio_notify", limit=None).said(0)
    tail = followed(run, domain)
    daemons.restart(1.0)
    before = tail.out.count(b"sector=0")
    eventually(lambda: tail.out.count(b"sector=0") > before + 3, "records after the restart")
    virsh("suspend", DOMAIN)
    eventually(lambda: b"--- STOP" in tail.out, "a QMP event after the restart")
    virsh("resume", DOMAIN)
    tail.signal(signal.SIGINT)
    tail.finish(None).said(130, "0 lost")
    assert enabled(run, domain) == ["virtio_notify"]
    run("-t", domain, "restore", limit=None).said(0)
    assert given_back(run)


def test_leases_survive_a_libvirtd_that_stays_away(
    run: Qtctl, domain: str, daemons: Daemons
) -> None:
    if not daemons.own:
        pytest.skip("the libvirtd of this machine is not restarted")
    tail = followed(run, domain)
    daemons.end_one()
    ran = tail.finish(None).said(5)
    assert not re.search(r"\b(end|kill|stop) .*libvirtd", ran.err)
    run("-t", domain, "list", limit=None).said(4, "libvirtd")
    daemons.start("libvirtd")
    eventually(daemons.answers, "libvirtd answers", _START_SECONDS)
    run("-t", domain, "list", "virtio_notify", limit=None).said(0)
    assert enabled(run, domain) == []
    assert given_back(run)


def test_the_examples_of_the_page_work(run: Qtctl, domain: str, tmp_path: Path) -> None:
    lines = "".join(pages.blocks("docs/libvirt.md", "shell")).splitlines()
    calls = [line.removeprefix("$ qtctl ") for line in lines if line.startswith("$ qtctl ")]
    assert len(calls) > 4
    for call in calls:
        words = shlex.split(call.replace("vm1.qtr", str(tmp_path / "vm1.qtr")))
        run(
            *(word.replace("vm1", DOMAIN) if "/" not in word else word for word in words),
            limit=None,
        ).said(0)
    assert given_back(run)


def test_a_domain_that_ends_ends_its_stream(run: Qtctl, domain: str) -> None:
    tail = followed(run, domain)
    virsh("destroy", DOMAIN)
    tail.finish(None).said(5, "lost")
    assert run.leases() == []
    run("-t", domain, "list", limit=None).said(4, "no running guest is")
