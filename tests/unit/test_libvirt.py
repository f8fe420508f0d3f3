"""The bridge to libvirtd, with a libvirt of the test's own; tests/field has the real one."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from qtctl.errors import ConnectionFailed, Refused, Unsupported
from qtctl.model import Address, Guest, GuestEvent
from qtctl.monitor import guests, libvirt
from qtctl.monitor.address import parse_target
from qtctl.monitor.client import connect
from qtctl.monitor.news import EventQueue

MONITOR = Address("/var/lib/libvirt/qemu/domain-1-vm/monitor.sock")
ARGV = ("qemu", "-uuid", "u-1", "-chardev", "socket,id=charmonitor,fd=29,server=on,wait=off")
GUEST = Guest(1 << 22, 1, "qemu", ARGV, name="vm", addresses=(MONITOR,))
VERSION = {"qemu": {"major": 9, "minor": 1, "micro": 0}, "package": "of a test"}


class LibvirtError(Exception):
    """``libvirt.libvirtError``."""

    def get_error_code(self) -> int:
        return 1


class FakeLibvirt:
    """libvirtd, its connections and its one domain; ``asked`` are the commands passed on."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.opened = 0
        self.alive = True
        self.refuses = ""
        self.gone: Callable[..., None] = lambda *_: None
        self.lifecycle: Callable[..., None] = lambda *_: None
        self.event: Callable[..., None] = lambda *_: None

    def open(self, uri: str | None) -> FakeLibvirt:
        if self.refuses:
            raise LibvirtError(self.refuses)
        self.opened += 1
        self.alive = True
        return self

    def close(self) -> int:
        return 0

    def lookupByUUIDString(self, uuid: str) -> FakeLibvirt:  # noqa: N802 - libvirt's name
        assert uuid == "u-1"
        return self

    def monitor_command(self, domain: object, text: str, flags: int) -> str:
        request = json.loads(text)
        assert "id" not in request, "libvirt sets it"
        if not self.alive:
            raise LibvirtError("the connection is closed")
        self.asked.append(request)
        if request["execute"] == "query-version":
            return json.dumps({"return": VERSION, "id": "libvirt-1"})
        if request["execute"] == "query-name":
            return json.dumps({"return": {"name": "vm"}, "id": "libvirt-2"})
        error = {"class": "GenericError", "desc": "no such thing"}
        return json.dumps({"id": "libvirt-3", "error": error})


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    fake = FakeLibvirt()
    module, qemu = types.ModuleType("libvirt"), types.ModuleType("libvirt_qemu")
    values: dict[str, Any] = {
        "libvirtError": LibvirtError,
        "open": fake.open,
        "VIR_ERR_SYSTEM_ERROR": 38,
        "VIR_ERR_NO_DOMAIN": 42,
        "VIR_DOMAIN_EVENT_ID_LIFECYCLE": 0,
        "VIR_DOMAIN_EVENT_STOPPED": 5,
        "VIR_DOMAIN_EVENT_CRASHED": 8,
    }
    vars(module).update(values)
    methods: dict[str, Any] = {
        "setKeepAlive": lambda *_: 0,
        "registerCloseCallback": lambda call, _: setattr(fake, "gone", call),
        "unregisterCloseCallback": lambda: 0,
        "domainEventRegisterAny": lambda dom, kind, call, _: setattr(fake, "lifecycle", call),
        "isAlive": lambda: fake.alive,
    }
    vars(fake).update(methods)
    hear: Callable[..., None] = lambda c, d, name, call, *_: setattr(fake, "event", call)  # noqa: E731
    vars(qemu).update(qemuMonitorCommand=fake.monitor_command, qemuMonitorEventRegister=hear)
    monkeypatch.setitem(sys.modules, "libvirt", module)
    monkeypatch.setitem(sys.modules, "libvirt_qemu", qemu)
    monkeypatch.setattr(libvirt, "_begin", lambda: None)
    return fake


def test_commands_pass_through_and_answers_have_the_ids_of_their_requests(
    daemon: FakeLibvirt,
) -> None:
    async def ask() -> None:
        monitor = await connect(MONITOR, GUEST)
        try:
            assert monitor.version == (9, 1, 0)
            assert monitor.guest_pid == GUEST.pid
            assert await monitor.execute("query-name") == {"name": "vm"}
            with pytest.raises(Refused, match="no such thing"):
                await monitor.execute("nosuch")
        finally:
            await monitor.close()

    asyncio.run(ask())
    assert [one["execute"] for one in daemon.asked] == ["query-version", "query-name", "nosuch"]


def test_events_come_and_the_end_of_the_domain_is_the_end_of_the_link(daemon: FakeLibvirt) -> None:
    async def hear() -> None:
        monitor = await connect(MONITOR, GUEST)
        queue = EventQueue()
        try:
            async with monitor.listening(queue):
                daemon.event(None, None, "STOP", 5, 6, None, None)
                daemon.event(None, None, "BAD", 5, 6, "{", None)
                daemon.event(None, None, "RESET", 5, 7, '{"guest": true}', None)
                await asyncio.wait_for(queue.wait(), 5)
                await monitor.execute("query-name")
                found = queue.take()
            daemon.lifecycle(None, None, 5, 0, None)
            await asyncio.wait_for(monitor.wait_lost(), 5)
        finally:
            await monitor.close()
        assert found == [
            GuestEvent("STOP", {}, 5_000_006_000),
            GuestEvent("RESET", {"guest": True}, 5_000_007_000),
        ]

    asyncio.run(hear())


def test_a_libvirtd_that_comes_back_is_asked_again(daemon: FakeLibvirt) -> None:
    async def ask() -> None:
        monitor = await connect(MONITOR, GUEST)
        try:
            daemon.alive = False
            daemon.gone(daemon, 1, None)
            async with asyncio.timeout(5):
                while daemon.opened == 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert await monitor.execute("query-name") == {"name": "vm"}
            daemon.refuses, daemon.alive = "it is away", False
            daemon.gone(daemon, 1, None)
            await asyncio.wait_for(monitor.wait_lost(), 5)
        finally:
            await monitor.close()

    asyncio.run(ask())


def test_what_libvirt_refuses_is_told(daemon: FakeLibvirt) -> None:
    daemon.refuses = "authentication unavailable"
    with pytest.raises(ConnectionFailed, match="authentication unavailable") as caught:
        asyncio.run(connect(MONITOR, GUEST))
    assert "virsh list" in caught.value.hint


def test_a_missing_module_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(Unsupported, match="libvirtd holds the monitor of domain 'vm'") as caught:
        asyncio.run(connect(MONITOR, GUEST))
    assert "apt install python3-libvirt" in caught.value.hint


def test_a_domain_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    own = GUEST._replace(pid=GUEST.pid + 1, name="own", argv=("qemu",))
    monkeypatch.setattr(guests, "running_guests", lambda: [own, GUEST])
    for target in ("libvirt:vm", "vm"):
        parsed = parse_target(target)
        assert parsed == target
        assert guests.find_guest(parsed) == GUEST
    assert guests.find_guest("libvirt:own") is None
    assert parse_target("libvirt:4444") == "libvirt:4444"


def test_a_second_monitor_of_a_domain_is_not_libvirts() -> None:
    assert libvirt.is_held(MONITOR, GUEST)
    assert not libvirt.is_held(Address("/tmp/own.sock"), GUEST)
    assert not libvirt.is_held(MONITOR, GUEST._replace(argv=("qemu",)))
