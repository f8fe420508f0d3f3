"""Sharing when the folder for it cannot be used, as another user has made one of its name."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl

EVENT = "virtio_blk_handle_read"


NOBODY = 65534


@pytest.fixture(params=["open to others", "a file", "a link", "another user's"])
def planted(request: pytest.FixtureRequest, qtctl: Qtctl, folder: Path) -> Iterator[Path]:
    """Return a folder for sharing that cannot be used."""
    place = qtctl.runtime / "qtctl"
    if request.param == "a file":
        place.touch()
    elif request.param == "a link":
        (folder / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(folder / "elsewhere")
    elif request.param == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can be two users")
        place.mkdir(mode=0o700)
        os.chown(place, NOBODY, NOBODY)
    else:
        place.mkdir()
        place.chmod(0o777)
    yield place


def test_another_private_folder_is_used_and_said(
    qtctl: Qtctl, fake: FakeProcess, planted: Path
) -> None:
    target = ("-t", fake.address)
    tail = qtctl.start(*target, "tail", EVENT)
    try:
        tail.said("Ctrl-C gives back")
        tail.said(f"{planted} cannot be used")
        status = json.loads(qtctl(*target, "status", "--json").said(0).out)
        assert Path(status["lender"]["path"]).is_relative_to(qtctl.cache)
        assert status["events"]["enabled"] == [EVENT]
    finally:
        tail.end()


def test_a_second_console_is_told_soon_that_sharing_is_off(
    qtctl: Qtctl, fake: FakeProcess, planted: Path
) -> None:
    """One that holds the monitor and cannot lend it is not waited for as if it soon left."""
    (qtctl.cache / "qtctl").mkdir(parents=True, exist_ok=True)
    (qtctl.cache / "qtctl" / "lent").touch()
    tail = qtctl.start("-t", fake.address, "tail", EVENT)
    try:
        tail.said("Ctrl-C gives back")
        tail.said("cannot lend the monitor at")
        began = time.monotonic()
        second = qtctl("-t", fake.address, "tail", EVENT)
        second.said(4, f"(pid {tail.pid})", f"end process {tail.pid}, a qtctl that does not")
        assert time.monotonic() - began < 15  # about 5 s, and 35 s as if it soon left
    finally:
        tail.end()
