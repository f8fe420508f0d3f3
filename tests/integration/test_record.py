"""``qtctl record`` on the fake: whole files whatever ends it, rings, full disks, bad options."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import resource
import signal
import stat
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qtctl.recordings import chunks
from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Running, eventually

from .conftest import MakeFake

EVENT = "virtio_blk_handle_read"
READY = "Ctrl-C gives back"
Log = Callable[[int, int], None]


@pytest.fixture
def log(fake: FakeProcess, folder: Path) -> Log:
    """Append events numbered from one number to another to the fake's log, hard to compress."""
    numbers = random.Random(1)

    def write(first: int, end: int) -> None:
        lines = "".join(
            f"{EVENT} vdev 0x1 req {numbers.getrandbits(63):#x} sector {n} nsectors 8\n"
            for n in range(first, end)
        )
        with (folder / "qmp.log").open("ab", buffering=0) as file:
            file.write(lines.encode())

    return write


@pytest.fixture
def started(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, tmp_path: Path
) -> Callable[..., Running]:
    """Start recording to ``a`` and wait until it does."""

    def start(*args: str, **options: Any) -> Running:
        known = ("--events-all", str(declared))
        run = qtctl.start(
            "-t", fake.address, "record", EVENT, "-o", str(tmp_path / "a"), *known, *args, **options
        )
        run.said(READY)
        return run

    return start


def given_back(qtctl: Qtctl, fake: FakeProcess) -> None:
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()
    assert not qtctl.spools()


def sectors(qtctl: Qtctl, path: Path, code: int = 0) -> list[int]:
    ran = qtctl("replay", str(path), "--ndjson", limit=None).said(code)
    lines = [json.loads(line) for line in ran.out.splitlines()]
    return [line["args"]["sector"] for line in lines if line["type"] == "event"]


Start = Callable[..., Running]


def rows(path: Path) -> int:
    """Count the records of the whole chunks that a recording has by now."""
    data, total = path.read_bytes() if path.exists() else b"", 0
    at = chunks.find_head(data, 0)
    while at >= 0 and (head := chunks.read_head(data, at)) is not None:
        at += chunks.HEAD_BYTES + head.stored
        total += head.rows if at <= len(data) else 0
    return total


def until(run: Running, path: Path, count: int) -> None:
    eventually(lambda: run.ended or rows(path) >= count, f"{count} records are written")


def test_it_records_and_gives_back(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started("--max-events", "5000", "--json")
    log(0, 3000)
    log(3000, 6000)
    ran = run.finish(None).said(0, "5000 shown", "0 lost")
    document = json.loads(ran.out)
    path = tmp_path / "a"
    size = path.stat().st_size
    assert document["files"] == [{"path": str(path), "records": 5000, "bytes": size}]
    assert (document["read"], document["lost"]) == (5000, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sectors(qtctl, path) == list(range(5000))
    kinds = [
        json.loads(line)["type"]
        for line in qtctl("replay", str(path), "--ndjson").out.split("\n")[:2]
    ]
    assert kinds == ["control", "event"]
    given_back(qtctl, fake)


def test_ctrl_c_ends_it_whole(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started()
    log(0, 100)
    until(run, tmp_path / "a", 100)
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(130, "100 shown")
    assert ran.out.startswith(f"{tmp_path / 'a'}\t100\t")
    assert sectors(qtctl, tmp_path / "a") == list(range(100))
    given_back(qtctl, fake)


def test_what_was_written_before_a_kill_can_be_read(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started()
    log(0, 70_000)
    path = tmp_path / "a"
    until(run, path, 1)
    run.signal(signal.SIGKILL)
    run.finish(None)
    ran = qtctl("replay", str(path), "--ndjson", limit=None)
    assert ran.code == 1
    assert "was not ended" in ran.err or "cut off" in ran.err
    found = [json.loads(line) for line in ran.out.splitlines()]
    got = [line["args"]["sector"] for line in found if line["type"] == "event"]
    assert len(got) > 0
    assert got == list(range(len(got)))
    qtctl("-t", fake.address, "status").said(0, "gave back")
    given_back(qtctl, fake)


def test_a_file_that_may_not_grow_keeps_what_is_whole(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (128 << 10, 128 << 10))

    run = started(preexec_fn=limit)
    n = 0
    while not run.ended:
        log(n, n + 5_000)
        n += 5_000
        until(run, tmp_path / "a", n)
    ran = run.finish(None).said(1, "File too large", "records that were written before")
    assert f"qtctl replay {tmp_path / 'a'}" in ran.err
    assert (tmp_path / "a").stat().st_size <= 128 << 10
    found = sectors(qtctl, tmp_path / "a", 1)
    assert len(found) > 3_000
    assert found == list(range(len(found)))
    given_back(qtctl, fake)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_keeps_what_is_whole(
    qtctl: Qtctl, fake: FakeProcess, log: Log, declared: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        known = ("--events-all", str(declared))
        path = disk / "a"
        run = qtctl.start("-t", fake.address, "record", EVENT, "-o", str(path), *known)
        run.said(READY)
        n = 0
        while not run.ended:
            log(n, n + 5_000)
            n += 5_000
            until(run, path, n)
        run.finish(None).said(1, "No space left on device", "records that were written before")
        found = sectors(qtctl, path, 1)
        assert len(found) > 3_000
        assert found == list(range(len(found)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    given_back(qtctl, fake)


def test_a_guest_that_goes_away_leaves_a_whole_file(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started()
    log(0, 10)
    until(run, tmp_path / "a", 10)
    fake.process.kill()
    run.finish(None).said(5)
    assert sectors(qtctl, tmp_path / "a") == list(range(10))


def test_a_ring_keeps_the_last_part(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started("--ring", "128KiB")
    for n in range(0, 60_000, 5000):
        log(n, n + 5000)
    found: list[int] = []

    def caught_up() -> bool:
        run.signal(signal.SIGUSR1)
        files = [one for one in run.err.decode().split("\n") if " written to " in one]
        found[:] = sectors(qtctl, Path(files[-1].split()[-1])) if files else []
        return found[-1:] == [59_999]

    eventually(caught_up, "the ring has the newest record")
    assert found == list(range(found[0], 60_000))
    assert max(one.stat().st_size for one in tmp_path.glob("a*")) < 160 << 10
    log(60_000, 60_010)
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(130, "SIGUSR1: ")  # or the last signal of the loop had them written
    last = ran.out.splitlines()[-1].split("\t")[0]
    assert sectors(qtctl, Path(last)) == list(range(60_000, 60_010))
    given_back(qtctl, fake)


def test_a_condition_has_the_ring_written(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started("--ring", "1h", "--dump-on", "sector == 70", "--dump-on", "sector == 1070")
    log(0, 50)
    log(50, 100)
    run.said(f"sector == 70: 100 records written to {tmp_path / 'a'}\n")
    log(1000, 1100)
    run.said(f"records written to {tmp_path / 'a.1'}\n")
    log(2000, 2100)
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(130)
    assert "the end" not in ran.err
    assert sectors(qtctl, tmp_path / "a") == list(range(100))
    assert sectors(qtctl, tmp_path / "a.1") == list(range(1000, 1100))
    assert not (tmp_path / "a.2").exists()
    given_back(qtctl, fake)


def test_a_ring_is_written_when_the_guest_goes_away(
    qtctl: Qtctl, fake: FakeProcess, log: Log, started: Start, tmp_path: Path
) -> None:
    run = started("--ring", "64MiB", "--dump-on", "GUEST_PANICKED")
    log(0, 10)
    eventually(lambda: fake.tell()["enabled"], "it is on")
    fake.process.kill()
    run.finish(None).said(5, "the guest went away: 10 records")
    assert sectors(qtctl, tmp_path / "a") == list(range(10))


def test_what_cannot_be_right_is_refused_first(
    qtctl: Qtctl, make_fake: MakeFake, declared: Path, tmp_path: Path
) -> None:
    fake = make_fake()
    out = str(tmp_path / "a")
    words = ("-t", fake.address, "--events-all", str(declared), "record", EVENT)
    qtctl(*words).said(2, "-o")
    (tmp_path / "there").touch()
    qtctl(*words, "-o", str(tmp_path / "there")).said(2, "overwrites no file")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    qtctl(*words, "-o", str(tmp_path / "dangling")).said(2, "overwrites no file")
    qtctl(*words, "-o", out, "--dump-on", "sector == 1").said(2, "--ring")
    qtctl(*words, "-o", out, "--ring", "much").said(2, "64MiB or 30s")
    qtctl(*words, "-o", out, "--ring", "9K").said(2, "64KiB is the least")
    ran = qtctl(*words, "-o", out, "--ring", "1M", "--dump-on", "sectr == 1")
    ran.said(2, "sectr", "sector")
    qtctl(*words, "-o", str(tmp_path / "no" / "a")).said(2, "No such file")
    qtctl(*words[:-1], "nothing_of_this*", "-o", out).said(3)
    assert not (tmp_path / "a").exists()
    given_back(qtctl, fake)


def test_a_key_has_the_ring_written(
    qtctl: Qtctl, fake: FakeProcess, log: Log, declared: Path, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    out = tmp_path / "a"
    run = qtctl.start(
        *("-t", fake.address, "--events-all", str(declared)),
        *("record", EVENT, "-o", str(out), "--ring", "1h"),
        stdin=theirs,
        preexec_fn=own_terminal,
    )
    run.said("d writes the ring to a file now")
    log(0, 10)

    def written() -> bool:
        os.write(ours, b"xd")  # again, until what was logged is in the ring
        return sum(map(rows, tmp_path.glob("a*"))) >= 10

    eventually(written, "the ring is written")
    run.signal(signal.SIGINT)
    run.finish(None).said(130, "d: ", f"written to {out}")
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    given_back(qtctl, fake)
