"""A guest ends and another starts at the same address: a console goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import qtctl
from qtctl.errors import LinkLost
from qtctl.leases.leasing import new_owner
from tests import qemus
from tests.fake_qmp import FakeProcess
from tests.qemus import RealGuest
from tests.running import eventually

EVENT = "virtio_blk_handle_read"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep leases and sockets inside the test."""
    for name in ("STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        folder = tmp_path / name.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(f"XDG_{name}", str(folder))
    yield tmp_path


async def lost(stream: qtctl.Stream) -> None:
    with pytest.raises(LinkLost):
        async for _ in stream:
            pass


async def test_a_console_goes_on_with_the_guest_that_comes_back(
    folder: Path, own_folders: Path
) -> None:
    where = ("--socket", str(folder / "qmp"), "-D", str(folder / "log"))
    with FakeProcess(*where) as first:
        async with qtctl.attach(first.address, lend=True) as session:
            async with session.follow(EVENT) as stream:
                following = asyncio.ensure_future(lost(stream))
                await asyncio.to_thread(first.stop)
                await following
            assert not await session.comes_back(0.1)
            returning = asyncio.ensure_future(session.comes_back())
            with FakeProcess(*where, "--qemu", "10.0") as second:
                assert await returning
                assert session.guest is not None
                assert session.guest.pid == second.pid
                assert session.monitor.version[0] == 10
                async with session.follow(EVENT, limit=1) as stream:
                    assert second.tell()["enabled"] == [EVENT]
                    async with qtctl.attach(second.address) as other:  # through the lender
                        assert other.guest == session.guest
                        assert other.monitor.lent
                    second.tell(emit=[f"{EVENT} vdev 0x1 req 0x2 sector 3 nsectors 4"])
                    assert [record.name async for record in stream.records()] == [EVENT]
                assert second.tell()["enabled"] == []
    assert list((own_folders / "runtime_dir" / "qtctl").glob("*")) == []


@pytest.mark.qemu
async def test_a_real_guest_that_is_started_again(folder: Path) -> None:
    socket = f"unix:{folder / 'qmp'},server=on,wait=off"
    extra = ("-qmp", socket, "-D", "{dir}/log")
    owner = new_owner()
    with RealGuest(qemus.require("path"), image="virtio-blk", extra=extra, qmp=False) as first:
        eventually((folder / "qmp").exists, "QEMU listens")
        async with qtctl.attach(str(folder / "qmp"), lend=True) as session:
            selection = qtctl.Selection.of(EVENT)
            await session.leasing.switch(owner, selection, True)
            first.process.terminate()
            assert await session.monitor.wait_lost()
            await asyncio.to_thread(first.process.wait)
            with RealGuest(qemus.require("path"), image="virtio-blk", extra=extra, qmp=False) as on:
                assert await session.comes_back(20)
                assert session.guest is not None
                assert session.guest.pid == on.pid
                assert (await session.list(EVENT))[EVENT] == "disabled"
                async with session.follow(EVENT, limit=3) as stream:
                    names = {record.name async for record in stream.records()}
                assert names == {EVENT}
