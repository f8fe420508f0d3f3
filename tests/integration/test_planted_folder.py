"""Sharing when the folder for it cannot be used, as another user has made one of its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl

EVENT = "virtio_blk_handle_read"


@pytest.fixture(params=["open to others", "a file", "a link"])
def planted(request: pytest.FixtureRequest, qtctl: Qtctl, folder: Path) -> Iterator[Path]:
    """Return a folder for sharing that cannot be used."""
    place = qtctl.runtime / "qtctl"
    if request.param == "a file":
        place.touch()
    elif request.param == "a link":
        (folder / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(folder / "elsewhere")
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
