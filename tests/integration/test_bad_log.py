"""Odd logs, outputs, terminals and journals: tail shows what is there and gives the guest back."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import qemus
from tests.fake_qmp import FakeProcess
from tests.qemus import RealGuest
from tests.running import Qtctl, Running, Stopwatch, eventually, stopped

from .conftest import MakeFake

EVENT = "virtio_blk_handle_read"
LINE = b"virtio_blk_handle_read vdev 0x1 req 0x2 sector 0 nsectors 1\n"
READY = "Ctrl-C gives back"
UNSAFE = frozenset(map(chr, (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x202E)))


@pytest.fixture
def log(fake: FakeProcess, folder: Path) -> Callable[..., None]:
    """Append bytes to the fake's log."""

    def write(*pieces: bytes) -> None:
        with (folder / "qmp.log").open("ab", buffering=0) as file:
            for piece in pieces:
                file.write(piece)

    return write


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def given_back(qtctl: Qtctl, fake: FakeProcess) -> None:
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()
    assert not qtctl.spools()


def tail(qtctl: Qtctl, target: str, *args: str, **options: Any) -> Running:
    run = qtctl.start("-t", target, "tail", EVENT, *args, **options)
    run.said(READY)
    return run


Log = Callable[..., None]


def test_nothing_of_the_log_reaches_the_terminal_raw(
    qtctl: Qtctl, fake: FakeProcess, log: Log
) -> None:
    """Each odd byte in an event's text, in a line that is no event, and in an event's name."""
    odd = [bytes([n]) for n in range(256) if n != 10]
    odd += ["\u2028".encode(), "\u202e".encode(), b"\xc2\x9b2J", b"\xff\xfe", b"\xed\xa0\x80"]
    lines = [EVENT.encode() + b" odd " + byte + b" end\n" for byte in odd]
    noise = [b"IN: " + byte + b" end\n" for byte in odd]
    text = tail(qtctl, fake.address, "--all", "--max-events", str(2 * len(odd)))
    log(*lines, *noise)
    shown = text.finish().said(0)
    assert not UNSAFE & set(shown.out + shown.err)
    assert shown.out.count("\n") == 2 * len(odd)
    assert "\\x1b" in shown.out

    exact = tail(qtctl, fake.address, "--all", "--ndjson", "--max-events", str(2 * len(odd)))
    log(*lines, *noise)
    found = records(exact.finish().said(0).out)
    texts = [record["line"] for record in found if record["type"] == "text"]
    raws = [record["raw"] for record in found if record["type"] == "event"]
    # JSON loses nothing, not even what is no UTF-8.
    assert [t.encode("utf-8", "surrogateescape") + b"\n" for t in texts] == noise
    assert [r.encode("utf-8", "surrogateescape") for r in raws] == [
        b"odd " + byte + b" end" for byte in odd
    ]
    given_back(qtctl, fake)


def test_lines_that_are_too_long_or_look_like_others(
    qtctl: Qtctl, fake: FakeProcess, log: Log, declared: Path
) -> None:
    run = tail(qtctl, fake.address, "--ndjson", "--all", "--events-all", str(declared))
    big = b"x" * (10 << 20)
    log(EVENT.encode() + b" ", big, b"\n")
    log(b"note: virtio_blk_handle_read vdev 0x1 req 0x2 sector 0 nsectors 1\n")
    log(b"virtio_blk_handle_readx 1\n", b"\0" * 5000 + b"\n", b"\n", b" " + LINE)
    log(LINE[:20])  # in two pieces
    log(LINE[20:], b"begun and never ended")
    run.wrote(b'"nsectors": 1')
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(130, "0 lost")
    found = records(ran.out)
    events = [record for record in found if record["type"] == "event" and "args" in record]
    assert [event["args"] for event in events[-1:]] == [
        {"vdev": 1, "req": 2, "sector": 0, "nsectors": 1}
    ]
    texts = [record["line"] for record in found if record["type"] == "text"]
    # A line beyond all measure comes in pieces; none of it is lost.
    whole = "".join(str(record.get("raw", record.get("line", ""))) for record in found)
    assert whole.count("x") >= len(big)
    notes = [text for text in texts if text.startswith("note: ")]
    assert notes == ["note: virtio_blk_handle_read vdev 0x1 req 0x2 sector 0 nsectors 1"]
    assert "\0" * 5000 in texts
    assert texts[-1] == "begun and never ended"
    summary = found[-1]
    assert summary["read"] == summary["shown"] + summary["filtered"]
    given_back(qtctl, fake)


def test_a_log_that_is_truncated_deleted_or_renamed(
    qtctl: Qtctl, fake: FakeProcess, log: Log, folder: Path
) -> None:
    """A truncation is a loss of unknown size, at its place; a name is nothing to an open file."""
    path = folder / "qmp.log"
    log(LINE * 100)
    kept = path.open("ab", buffering=0)
    run = tail(qtctl, fake.address, "--ndjson", "--strict")
    log(LINE)
    run.wrote(b'"event"')
    os.truncate(path, 0)
    run.wrote(b'"loss"')
    path.rename(folder / "old.log")
    kept.write(LINE)
    eventually(lambda: run.out.count(b'"type": "event"') == 2, "the renamed log is followed")
    (folder / "old.log").unlink()
    with kept:
        kept.write(LINE)
    eventually(lambda: run.out.count(b'"type": "event"') == 3, "the deleted log is followed")
    run.signal(signal.SIGTERM)
    ran = run.finish(None).said(6, "an unknown number", "lost")
    assert [r["type"] for r in records(ran.out)][1:5] == ["event", "loss", "event", "event"]
    assert next(r for r in records(ran.out) if r["type"] == "loss")["count"] is None
    given_back(qtctl, fake)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_give_back_at_any_moment(
    qtctl: Qtctl, make_fake: MakeFake, number: signal.Signals
) -> None:
    """At once, while each of its commands waits for an answer, and while it streams."""
    codes = set()
    for step in range(1, 8):
        fake = make_fake(name=f"s{step}")
        run = qtctl.start("-t", fake.address, "tail", EVENT, "memory_region_ops_*")

        def reached(fake: FakeProcess = fake, step: int = step, run: Running = run) -> bool:
            return len(fake.tell()["commands"]) >= step or run.ended

        eventually(reached, f"command {step} was sent")
        run.signal(number)
        ran = run.finish()
        codes.add(ran.code)
        assert not fake.tell()["enabled"], (step, ran)
        fake.stop()
    assert codes == {128 + number}
    assert not qtctl.leases()


def _has_grown(path: Path, size: int) -> bool:
    return path.stat().st_size > size


def test_a_reader_that_leaves_or_stalls(qtctl: Qtctl, make_fake: MakeFake) -> None:
    leaves, quiet, stalls = (make_fake("--rate", rate, name=rate) for rate in ("2000", "1", "9000"))
    head = subprocess.Popen(["head", "-1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert head.stdin is not None
    run = qtctl.start("-t", leaves.address, "tail", EVENT, stdout=head.stdin)
    head.stdin.close()
    assert head.stdout is not None
    with head.stdout:
        assert head.stdout.read().count(b"\n") == 1
    assert head.wait() == 0
    ran = run.finish().said(0)
    assert "rror" not in ran.err
    given_back(qtctl, leaves)

    # A reader that is gone before anything is written is noticed, too.
    reading, writing = os.pipe()
    run = qtctl.start("-t", quiet.address, "tail", EVENT, stdout=writing)
    os.close(writing)
    run.said(READY)
    os.close(reading)
    run.finish().said(0)
    given_back(qtctl, quiet)

    log = Path(f"{stalls.address}.log")
    for number in (signal.SIGINT, signal.SIGTERM):
        reading, writing = os.pipe()
        try:
            run = qtctl.start("-t", stalls.address, "tail", EVENT, stdout=writing)
            run.said(READY)
            eventually(partial(_is_full, writing), "the pipe is full")
            enough = log.stat().st_size + (1 << 17)
            eventually(partial(_has_grown, log, enough), "more is logged than the pipe holds")
            watch = Stopwatch()
            run.signal(number)
            eventually(lambda: not stalls.tell()["enabled"], "the guest is given back")
            assert watch.seconds < 3
            run.finish(None).said(128 + number, "stalled")
            assert watch.seconds < 5
        finally:
            os.close(reading)
            os.close(writing)
        given_back(qtctl, stalls)


def test_a_duration_ends_whatever_the_reader_does(qtctl: Qtctl, make_fake: MakeFake) -> None:
    """Somebody reads in a pager: the events go off in time, and no record is dropped for it."""
    fake = make_fake("--rate", "9000")
    reading, writing = os.pipe()
    run = qtctl.start("-t", fake.address, "tail", EVENT, "--duration", "1500ms", stdout=writing)
    try:
        run.said(READY)
        watch = Stopwatch()
        eventually(partial(_is_full, writing), "the pipe is full")
        eventually(lambda: not fake.tell()["enabled"], "the guest is given back")
        assert watch.seconds < 5
        assert not run.ended
    finally:
        os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123
        shown = pipe.read().count(b"\n")
    run.finish(None).said(0, f"{shown} read, {shown} shown, 0 filtered, 0 lost")
    given_back(qtctl, fake)


def _is_full(fd: int) -> bool:
    return not select.select([], [fd], [], 0)[1]


def test_outputs_that_cannot_be_written(qtctl: Qtctl, make_fake: MakeFake) -> None:
    fake = make_fake("--rate", "500")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ran = qtctl("-t", fake.address, "tail", EVENT, stdout=full)
        ran.said(1, "cannot write the records", "No space left")
        given_back(qtctl, fake)
        qtctl("-t", fake.address, "list", EVENT, stdout=full).said(1, "No space left")
        # Nowhere to complain to: still no crash, and given back.
        run = qtctl.start("-t", fake.address, "tail", EVENT, "--duration", "100ms", stderr=full)
        assert run.finish().code == 0
    given_back(qtctl, fake)
    closed = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh")
    qtctl("-t", fake.address, "tail", EVENT, "--max-events", "3", before=closed)
    given_back(qtctl, fake)


def test_a_journal_that_cannot_be_kept(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    """Nothing is switched that could not be given back."""
    (folder / "file").write_text("in the way")
    (folder / "gone").symlink_to(folder / "missing" / "deeper")
    for place in (folder / "file", Path("/dev/full"), Path("/proc")):
        for verb in (("enable", EVENT), ("tail", EVENT)):
            ran = qtctl("-t", fake.address, *verb, env={"XDG_STATE_HOME": str(place)})
            ran.said(1, "cannot keep the lease journal", "nothing was switched", "XDG_STATE_HOME")
        # What switches nothing needs no journal.
        qtctl("-t", fake.address, "list", EVENT, env={"XDG_STATE_HOME": str(place)}).said(0)
    sent = [c for c in fake.tell()["commands"] if c["execute"] == "trace-event-set-state"]
    assert not sent


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\0garbage",
        b"{",
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"schema": 99}',
        b'{"schema": 1, "owner": [1], "events": {}, "output": null}',
        b'{"schema": 1, "owner": null, "events": {"x": "y"}, "output": null}',
        b'{"schema": 1, "owner": null, "events": {"x": [true, false]}, "output": {"found": 3}}',
    ],
)
def test_a_journal_that_is_garbage(qtctl: Qtctl, fake: FakeProcess, data: bytes) -> None:
    """It is told once, kept aside, and stops nothing."""
    qtctl("-t", fake.address, "enable", EVENT).said(0)
    (lease,) = qtctl.leases()
    lease.write_bytes(data)
    ran = qtctl("-t", fake.address, "list", EVENT).said(0, "could not be read (")
    assert len(ran.err) < 1000
    again = qtctl("-t", fake.address, "list", EVENT).said(0)
    assert not again.err
    kept = [path for path in lease.parent.iterdir() if ".broken-" in path.name]
    assert [path.read_bytes() for path in kept] == [data]
    qtctl("-t", fake.address, "disable", EVENT).said(0)
    assert not fake.tell()["enabled"]


def test_journals_of_others(qtctl: Qtctl, fake: FakeProcess) -> None:
    """A dead guest's is dropped; a pid that another process has now is a dead owner."""
    qtctl("-t", fake.address, "enable", EVENT).said(0)
    (lease,) = qtctl.leases()
    dead = lease.parent.parent / f"{lease.parent.name.split('-')[0]}-1-1"
    dead.mkdir()
    (dead / "standing.json").write_bytes(lease.read_bytes())
    document = json.loads(lease.read_text())
    # This process lives, but did not start then.
    document["owner"] = [os.getpid(), 1, 1]
    (lease.parent / f"{os.getpid()}-1-1.json").write_text(json.dumps(document))
    lease.unlink()
    qtctl("-t", fake.address, "list", EVENT).said(0, "gave back 1 event", str(os.getpid()))
    assert not dead.exists()
    given_back(qtctl, fake)


def test_a_killed_tail_is_undone_by_the_next_run(qtctl: Qtctl, fake: FakeProcess) -> None:
    qtctl("-t", fake.address, "enable", "ide_reset").said(0)
    run = tail(qtctl, fake.address, "memory_region_ops_*", "ide_*")
    assert len(fake.tell()["enabled"]) > 3
    run.process.kill()
    assert run.finish().code == -9
    qtctl("-t", fake.address, "status").said(0, "gave back", f"pid {run.pid}")
    assert fake.tell()["enabled"] == ["ide_reset"]


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": "dumb"},
        {"TERM": None, "COLUMNS": "nonsense"},
        {"NO_COLOR": "1", "COLUMNS": "-5"},
    ],
)
def test_odd_environments(
    qtctl: Qtctl, fake: FakeProcess, log: Log, env: dict[str, str | None]
) -> None:
    run = tail(qtctl, fake.address, "--max-events", "1", env=env)
    log(f"{EVENT} ünïcödé \u2603\n".encode())
    ran = run.finish().said(0)
    assert b"\x1b" not in ran.raw + ran.raw_err
    assert b"Traceback" not in ran.raw
    assert EVENT.encode() in ran.raw
    given_back(qtctl, fake)


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_one_column_wide(
    qtctl: Qtctl, fake: FakeProcess, log: Log, env: dict[str, str], coloured: bool
) -> None:
    with _terminal(columns=1) as (ours, theirs):
        run = tail(
            qtctl, fake.address, "--max-events", "1", stdout=theirs, env={"TERM": "xterm", **env}
        )
        log(LINE)
        run.finish().said(0)
        shown = os.read(ours, 1 << 16)
        # Rows are wrapped: a character each, in its colour.
        assert EVENT.encode() in re.sub(rb"\x1b\[[\d;]*m|\r\n", b"", shown)
        assert (b"\x1b[" in shown) == coloured
        listed = qtctl("-t", fake.address, "list", "virtio_blk_*", stdout=theirs, env=env)
        listed.said(0)
    given_back(qtctl, fake)


@contextlib.contextmanager
def _terminal(columns: int) -> Iterator[tuple[int, int]]:
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 5, columns, 0, 0))
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.qemu
@pytest.mark.parametrize("kind", ["pipe", "null", "socket", "file", "tty"])
def test_wherever_stderr_leads(qtctl: Qtctl, tmp_path: Path, kind: str) -> None:
    """A real guest's log is followed and put back where it went."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            ours, theirs = os.pipe()
        elif kind == "socket":
            left, right = socket.socketpair()
            ours, theirs = left.detach(), right.detach()
        elif kind == "tty":
            ours, theirs = pty.openpty()
        else:
            name = os.devnull if kind == "null" else str(tmp_path / "stderr")
            ours = theirs = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd in {ours, theirs}:
            stack.callback(os.close, fd)
        guest = stack.enter_context(RealGuest(qemus.require("path"), stderr=theirs))
        ran = qtctl("-t", guest.address, "tail", "memory_region_ops_*", "--max-events", "5")
        ran.said(0, "5 read, 5 shown")
        assert not qtctl.leases()
        assert not qtctl.spools()
        if kind != "socket":  # which QEMU cannot open again
            now = json.loads(qtctl("-t", guest.address, "--json", "status").said(0).out)["log"]
            words = {"null": "/dev/null", "file": str(tmp_path), "tty": "/dev/p", "pipe": "pipe"}
            assert words[kind] in now["target"], now


@pytest.mark.qemu
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_log_that_is_no_plain_file(qtctl: Qtctl, folder: Path, kind: str) -> None:
    """QEMU was started with it: it is never opened by qtctl, and QEMU goes on to answer."""
    path = folder / "fifo" if kind == "fifo" else Path(os.devnull)
    keep = -1
    if kind == "fifo":
        os.mkfifo(path)
        keep = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        with RealGuest(qemus.require("path"), extra=("-D", str(path))) as guest:
            ran = qtctl("-t", guest.address, "tail", "ide_*", "--duration", "200ms")
            assert ran.code in (0, 1), ran
            qtctl("-t", guest.address, "list", "--state", "enabled").said(0)
            assert not qtctl.leases()
            assert not qtctl.spools()
    finally:
        if keep >= 0:
            os.close(keep)


@pytest.mark.qemu
def test_two_on_one_guest(qtctl: Qtctl) -> None:
    """Through two monitors: what the other still wants stays on, and the spool is shared."""
    extra = ("-qmp", "unix:{dir}/other.sock,server=on,wait=off")
    with RealGuest(qemus.require("path"), extra=extra, stderr=subprocess.DEVNULL) as guest:
        other = str(guest.directory / "other.sock")
        first = qtctl.start("-t", guest.address, "tail", "ide_*", "virtio_blk_*")
        first.said(READY)
        second = qtctl.start("-t", other, "tail", "virtio_blk_*", "virtio_scsi_*")
        second.said(READY)
        assert len(qtctl.leases()) == 2
        first.signal(signal.SIGINT)
        first.finish(None).said(130)
        shown = json.loads(qtctl("-t", guest.address, "--json", "list", "--state", "enabled").out)
        on = {event["name"] for event in shown["events"]}
        assert on
        assert {name.split("_")[0] for name in on} <= {"virtio"}
        second.signal(signal.SIGINT)
        second.finish(None).said(130)
        assert not qtctl("-t", other, "list", "--state", "enabled").said(0).out
        assert not qtctl.leases()
        assert not qtctl.spools()


@pytest.mark.qemu
def test_a_tail_that_is_itself_stopped(qtctl: Qtctl) -> None:
    """Ctrl-Z and fg lose nothing of a plain file."""
    with RealGuest(qemus.require("path"), extra=("-D", "{dir}/log")) as guest:
        run = qtctl.start("-t", guest.address, "tail", "ide_*", "--ndjson", "--strict")
        run.said(READY)
        with stopped(run.pid):
            qtctl("-t", str(guest.pid), "ps", limit=None)
        run.signal(signal.SIGINT)
        assert records(run.finish(None).said(130).out)[-1]["lost"] == 0
        assert not qtctl.leases()


def stepping(rounds: int) -> bytes:
    """Return requests of 100 us each; the clock is set back by an hour, then ahead."""
    now, lines = time.time() + 60, []
    for number in range(rounds):
        at = now + number / 1000 + (0, -3600, 7200)[3 * number // rounds]
        lines += [
            f"7@{at:.6f}:{EVENT} vdev 0x1 req {number:#x} sector {number} nsectors 1\n",
            f"7@{at + 1e-4:.6f}:virtio_blk_req_complete vdev 0x1 req {number:#x} status 0\n",
        ]
    return "".join(lines).encode()


@pytest.mark.parametrize(
    "verb",
    [
        ("tail", "virtio_blk_*", "--time", "delta"),
        ("record", "virtio_blk_*", "--ring", "10s", "-o", "{}/a.qtr"),
        ("latency", EVENT, "virtio_blk_req_complete", "--interval", "0.1s", "--ndjson"),
        ("count", "virtio_blk_*", "--interval", "0.1s", "--ndjson"),
    ],
)
def test_a_clock_that_is_set_in_mid_run(
    verb: tuple[str, ...],
    qtctl: Qtctl,
    fake: FakeProcess,
    folder: Path,
    declared: Path,
    log: Callable[..., None],
) -> None:
    words = [word.format(folder) for word in verb]
    run = qtctl.start("-t", fake.address, "--events-all", str(declared), *words)
    run.said(READY)
    log(stepping(300))
    if "--interval" in verb:
        # What is read after the end is told by its times, and these are not of our clock.
        pattern = rb'"count": (\d+), "(?:groups|p50)'
        wanted = 300 if verb[0] == "latency" else 600
        eventually(lambda: sum(map(int, re.findall(pattern, run.out))) == wanted, "all is shown")
    run.signal(signal.SIGTERM)
    ran = run.finish().said(143, "600 read, 600 shown, 0 filtered, 0 lost")
    match verb[0]:
        case "tail":
            deltas = [float(line.split()[0]) for line in ran.out.splitlines()]
            assert sorted(deltas)[0] == pytest.approx(-3600, abs=1)
            assert sorted(deltas)[-1] == pytest.approx(10800, abs=1)
            assert sum(0 <= delta < 0.01 for delta in deltas) == 598
        case "record":
            replayed = qtctl("replay", f"{folder}/a.qtr", "--ndjson").said(0)
            times = [one["time_ns"] for one in records(replayed.out) if one["type"] == "event"]
            assert len(times) == 600
            assert sum(a > b for a, b in pairwise(times)) == 1
        case "latency":
            *blocks, _ = records(ran.out)
            for found in blocks:
                assert (found["disordered"], found["unpaired"], found["unseen"]) == (0, 0, 0)
                assert not found["count"] or 99_000 <= found["p50"] <= found["max"] <= 101_000
    given_back(qtctl, fake)
