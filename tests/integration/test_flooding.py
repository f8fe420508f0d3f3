"""A flood is told while it lasts: to people, to scripts, and with what ends it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Running, eventually

LOUD = b"virtio_blk_req_complete vdev 0x1 req 0x2 status 0\n" * 40_000
QUIET = b"virtio_notify vdev 0x1 vq 0x2\n" * 100


def flood(log: Path, running: Running, text: str) -> None:
    """Log some 400,000 lines a second until qtctl said something."""

    def once() -> bool:
        with log.open("ab") as file:
            file.write(LOUD + QUIET)
        time.sleep(0.1)  # this makes the rate
        return text.encode() in running.err or running.ended

    eventually(once, f"{text!r} is said")


@pytest.mark.parametrize("ndjson", [True, False])
def test_a_flood_is_told_once_with_what_quiets_it(
    ndjson: bool, qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    words = ("tail", "virtio_*", "--where", "tid == 1", *(("--ndjson",) if ndjson else ()))
    running = qtctl.start("-t", fake.address, *words)
    running.said("events on")
    flood(folder / "qmp.log", running, "to quiet them: qtctl disable virtio_blk_req_complete")
    flood(folder / "qmp.log", running, "flood of")
    running.signal(signal.SIGINT)
    ran = running.finish(None)
    assert ran.err.count("flood of") == 1, ran.err
    if not ndjson:
        assert "--- flood of" in ran.out
        return
    [told] = [one for line in ran.out.splitlines() if (one := json.loads(line))["type"] == "flood"]
    assert told["per_s"] > 200_000
    assert told["bytes_per_s"] > 10_000_000
    assert told["loudest"][0]["name"] == "virtio_blk_req_complete"
    assert (told["patterns"], told["guarded"]) == (["virtio_blk_req_complete"], False)


def test_a_guard_is_a_number_of_events(qtctl: Qtctl, fake: FakeProcess) -> None:
    for wrong in ("0", "-1", "many", "0MB", "20M", "20 B"):
        qtctl("-t", fake.address, "tail", "virtio_*", "--guard", wrong).said(2, "--guard")
    assert not fake.tell()["enabled"]


@pytest.mark.parametrize(
    "words",
    [
        "tail virtio_* --guard 1MB --ndjson",
        "count virtio_* --guard 1MB",
        "latency virtio_notify virtio_blk_req_complete --key none --guard 1MB",
        "on virtio_* --every 1h --guard 1MB do mark seen",
    ],
)
def test_a_guard_may_be_so_many_bytes(
    words: str, qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    running = qtctl.start("-t", fake.address, *words.split())
    running.said("events on")
    flood(folder / "qmp.log", running, "MB/s: virtio_blk_req_complete")
    eventually(
        lambda: "virtio_blk_req_complete" not in fake.tell()["enabled"], "the loudest is off"
    )
    assert "virtio_notify" in fake.tell()["enabled"]
    running.signal(signal.SIGINT)
    running.finish(None)
    assert not fake.tell()["enabled"]
