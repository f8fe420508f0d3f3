"""A home, with its state, cache and spools, that fills while a real guest is followed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemus import RealGuest, require
from tests.running import Qtctl

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root"),
]

EVENT = "virtio_queue_notify"
#: A spool is made where 128 MiB are free.
SIZE = "136m"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a home on a file system of its own."""
    path = tmp_path / "home"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(home: Path) -> None:
    """Leave no room at all."""
    with (home / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(bytes(1 << 16))


def test_a_home_that_fills_under_a_tail(home: Path) -> None:
    guest = RealGuest(require("path"), image="virtio-blk", stderr=subprocess.DEVNULL)
    with Qtctl(home) as run, guest:
        target = ("-t", guest.address)
        running = run.start(*target, "tail", EVENT, "--ndjson")
        running.wrote(EVENT.encode())
        assert run.spools(), "on this file system"
        fill(home)
        running.wrote(b'"type": "loss", "backend": "log", "count": null')
        running.signal(signal.SIGINT)
        ran = running.finish(None).said(130, "is full: QEMU loses lines without a word")
        assert "cannot keep" not in ran.err
        assert run(*target, "list", "--state", "enabled").said(0).out == ""
        assert run.leases() == run.spools() == []


def test_a_home_that_is_full(home: Path) -> None:
    with Qtctl(home) as run, RealGuest(require("path"), image="virtio-blk") as guest:
        target = ("-t", guest.address)
        run(*target, "enable", EVENT).said(0)
        run("sets", "--save", "mine", "a*").said(0)
        fill(home)
        for verb in ("enable", "tail"):
            ran = run(*target, verb, "virtio_blk_*")
            ran.said(1, "No space left on device; nothing was switched", "XDG_STATE_HOME")
        for words in (("other", "a*"), ("mine", "--force", "b*")):
            run("sets", "--save", *words).said(2, "No space left on device")
        assert run("sets", "mine").said(0).out.endswith("a*\n")
        assert "other" not in run("sets").said(0).out
        assert run(*target, "list", "--state", "enabled").said(0).out == f"{EVENT}\tenabled\n"
        run(*target, "disable", EVENT).said(0)
        assert run(*target, "list", "--state", "enabled").said(0).out == ""
        assert len(list((home / "cache" / "qtctl").iterdir())) <= 1
