"""Advice fits who asks and who runs the guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qtctl.model import Guest, Holder
from qtctl.monitor import advice

OWN = Guest(7, 0, "qemu", ("qemu", "-qmp", "unix:q,server=on"), name="vm", uid=1000)
LIBVIRT = (
    "qemu",
    "-chardev",
    "socket,id=charmonitor,fd=23,server=on",
    "-mon",
    "chardev=charmonitor",
)
LIBVIRTS = OWN._replace(argv=LIBVIRT, name="my vm", uid=64055)


@pytest.fixture
def asker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: request.param)


def as_(uid: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("asker", [uid], indirect=True)


def test_a_libvirt_guest_gets_options_by_virsh() -> None:
    assert advice.start_with(OWN, "-D FILE") == "start QEMU with -D FILE"
    found = advice.start_with(LIBVIRTS, "-D FILE")
    assert found == "virsh edit 'my vm': <qemu:commandline> with -D FILE"


@pytest.mark.usefixtures("asker")
class TestHolders:
    """Nobody is told to end libvirt, nor another user's qtctl."""

    @as_(1000)
    def test_of_libvirt(self) -> None:
        found = advice.free_monitor(LIBVIRTS, [Holder(1, "libvirtd")])
        assert found == "qtctl -t 'libvirt:my vm', which asks libvirtd"

    @as_(0)
    def test_of_a_users_lender(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(advice, "is_qtctl", lambda pid: True)
        monkeypatch.setattr(advice, "uid_of", lambda pid: 65534)
        found = advice.free_monitor(OWN, [Holder(9, "qtctl")])
        assert found.startswith("sudo -u nobody qtctl ..., ")
        monkeypatch.setattr(advice, "uid_of", lambda pid: 0)
        assert advice.free_monitor(OWN, [Holder(9, "qtctl")]).startswith("end process 9")

    @as_(1000)
    def test_of_one_that_is_not_seen(self) -> None:
        found = advice.free_monitor(OWN, [Holder(None, "another process")])
        assert found == "sudo qtctl ps shows who holds it"


@pytest.mark.usefixtures("asker")
class TestPlaces:
    """The user that can see a guest, or open its log, is named."""

    @as_(1000)
    def test_of_an_own_guest(self) -> None:
        assert advice.run_beside(OWN) == "sudo qtctl ..."
        assert advice.run_beside(OWN, 0) == "sudo qtctl ..."

    @as_(0)
    def test_of_another_users_guest(self) -> None:
        assert advice.run_beside(OWN._replace(uid=65534)) == "sudo -u nobody qtctl ..."
        assert advice.run_beside(OWN, 4_000_000) == "sudo -u '#4000000' qtctl ..."

    @as_(1000)
    def test_of_one_that_is_not_seen(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(advice, "_CONTAINER_MARKS", ())
        assert "own machine" in advice.run_beside(None)
        monkeypatch.setattr(advice, "_CONTAINER_MARKS", (str(tmp_path),))
        assert "outside of this container" in advice.run_beside(None)
