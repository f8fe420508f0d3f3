"""Another host in a network namespace of its own: the way to it is cut."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.fake_qmp import FakeProcess
from tests.integration.conftest import fake, folder, make_fake
from tests.running import Qtctl, eventually
from tests.sshd import NAME, Sshd

__all__ = ["fake", "folder", "make_fake"]

EVENT = "virtio_blk_handle_read"
HERE, THERE = f"qt{os.getpid()}a", f"qt{os.getpid()}b"
SPACE = f"qtctl-{os.getpid()}"


def ip(*words: str) -> None:
    """Run ip; skip the test where this machine forbids it."""
    ran = subprocess.run(
        [needs.program("ip", "iproute2"), *words], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        pytest.skip(f"ip {' '.join(words)}: {ran.stderr.strip()}")


@pytest.fixture
def far(folder: Path) -> Iterator[Sshd]:
    """Run another host behind a link of its own."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", SPACE)
        ip("address", "add", "10.213.77.1/30", "dev", HERE)
        ip("link", "set", HERE, "up")
        for words in (
            ("address", "add", "10.213.77.2/30", "dev", THERE),
            ("link", "set", THERE, "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", SPACE, *words)
        (folder / "ssh").mkdir()
        inside = ("ip", "netns", "exec", SPACE)
        with Sshd(folder / "ssh", address="10.213.77.2", before=inside) as server:
            yield server
    finally:
        for undo in (["ip", "link", "del", HERE], ["ip", "netns", "del", SPACE]):
            subprocess.run(undo, capture_output=True, check=False)


def test_the_guest_is_given_back_when_the_way_is_cut(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess
) -> None:
    running = qtctl.start("-t", f"ssh://{NAME}/{fake.address}", "tail", EVENT, env=far.env)
    running.said("1 event on")
    ip("link", "set", HERE, "down")
    began = time.monotonic()
    eventually(lambda: not fake.tell()["enabled"], "the guest is given back")
    assert time.monotonic() - began < 10
    eventually(lambda: running.ended, "the link is taken for lost")
    assert time.monotonic() - began < 20
    running.finish(None).said(5, f"lost {NAME}: ")


def test_a_host_that_cannot_be_reached_is_given_up(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess
) -> None:
    ip("-n", SPACE, "link", "set", THERE, "down")
    began = time.monotonic()
    ran = qtctl("-t", f"ssh://{NAME}/{fake.address}", "list", env=far.env, limit=None)
    ran.said(4, f"cannot reach {NAME} by ssh", f"try: ssh {NAME} true")
    assert time.monotonic() - began < 25
