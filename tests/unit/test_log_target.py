"""The command line and the open files show where the log goes; spools are private and bounded."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qtctl.backends.log.target import (
    SIMPLE_MAGIC,
    LogReach,
    LogTarget,
    find_log,
    has_open,
    put_back,
    quoted,
    redirect,
)
from qtctl.backends.spool.leased import leased_spool
from qtctl.backends.spool.spool import MIB, Spool, make_spool, punch, remove_spool, start_keeper
from qtctl.errors import Unsupported
from qtctl.leases.journal import Owner, Resource
from qtctl.leases.leasing import new_owner
from qtctl.model import Guest

# Opens write-only what its arguments name, as fopen(path, "w") does, and stays until stdin ends.
# It opens "device:PATH" as a character device does, and locks "locked:PATH".
_PROGRAM = """
import fcntl, os, sys
for word in sys.argv[1:]:
    if not word.startswith("-"):
        kind, colon, path = word.rpartition(":")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.set_inheritable(fd, kind != "device")
        if kind == "locked":
            fcntl.flock(fd, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


@contextlib.contextmanager
def running(
    *words: str,
    stderr: Any = subprocess.DEVNULL,
    cwd: Path | None = None,
    before: Sequence[str] = (),
) -> Iterator[Guest]:
    process = subprocess.Popen(
        [*before, sys.executable, "-c", _PROGRAM, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=cwd,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        argv = tuple(words)
        yield Guest(process.pid, 0, sys.executable, argv, cwd=str(cwd or "/"), uid=os.getuid())
    finally:
        process.stdin.close()
        process.wait(5)
        process.stdout.close()
        if process.stderr is not None:
            process.stderr.close()


def target(guest: Guest, log_file: str | None = None, daemonized: bool = False) -> LogTarget:
    return find_log(guest, log_file, daemonized, False)


def test_the_file_of_d_is_found_even_renamed_deleted_or_relative(tmp_path: Path) -> None:
    path = tmp_path / "q.log"
    with running(str(path)) as guest:
        found = target(guest, str(path))
        assert (found.reach, found.path) == (LogReach.FILE, str(path))
        assert found.certain
        path.rename(tmp_path / "q.log.1")
        renamed = target(guest, str(path))
        assert (renamed.path, renamed.missing) == (str(tmp_path / "q.log.1"), str(path))
        assert not renamed.certain
        assert str(renamed).startswith(f"perhaps {tmp_path}/q.log.1 (a guess: {path}, ")
        (tmp_path / "q.log.1").rename(path)
        path.unlink()
        deleted = target(guest, str(path))
        assert (deleted.path, deleted.certain) == (f"{path} (deleted)", True)
    with running("r%d.log", cwd=tmp_path) as guest:
        (tmp_path / "r%d.log").rename(tmp_path / f"r{guest.pid}.log")
        found = target(guest, "r%d.log")
        assert (found.path, found.certain) == (str(tmp_path / f"r{guest.pid}.log"), True)
    with running(str(path)) as guest:  # after a chdir
        assert target(guest, "q.log").missing == "q.log"
        linked = tmp_path / "link"
        linked.symlink_to(path)
        assert target(guest, str(linked)).certain


def test_without_a_log_file_only_stderr_is_the_log(tmp_path: Path) -> None:
    null = LogTarget(LogReach.NULL, "/dev/null", undo="/dev/null")
    with running(f"device:{tmp_path}/serial", f"locked:{tmp_path}/pid") as guest:
        assert target(guest) == null
        missing = target(guest, str(tmp_path / "q.log"))
        assert (missing.reach, missing.others) == (LogReach.MOVED, ())
        assert str(missing).startswith(f"unknown (a guess: {tmp_path}/q.log, ")
    (tmp_path / "trace").write_bytes(b"\xff" * 8 + SIMPLE_MAGIC + bytes(8))
    with running(str(tmp_path / "trace")) as guest:  # the simple backend's file
        assert target(guest) == null
    with running(str(tmp_path / "open"), str(tmp_path / "lock")) as guest:
        found = target(guest)
        assert replace(found, others=()) == null
        assert [other.path for other in found.others] == [f"{tmp_path}/open", f"{tmp_path}/lock"]
        assert str(found) == (
            f"/dev/null (or {tmp_path}/open or {tmp_path}/lock, "
            "if logfile of the human monitor moved it there)"
        )
        found = target(guest, str(tmp_path / "lock"))
        assert (found.path, found.certain) == (f"{tmp_path}/lock", True)


def test_a_log_that_was_moved_is_a_guess(tmp_path: Path) -> None:
    with running("/dev/null", str(tmp_path / "one"), str(tmp_path / "two")) as guest:
        found = target(guest, str(tmp_path / "gone"))
        assert (found.path, found.missing) == (f"{tmp_path}/two", f"{tmp_path}/gone")
        assert [other.path for other in found.others] == ["/dev/null", f"{tmp_path}/one"]
    with running("/dev/null") as guest:
        found = target(guest, str(tmp_path / "gone"))
        assert (found.reach, found.undo, found.certain) == (LogReach.NULL, "/dev/null", False)


def test_a_spool_of_the_journal_is_the_log(tmp_path: Path) -> None:
    with running(str(tmp_path / "spool"), str(tmp_path / "later")) as guest:
        spools = [str(tmp_path / "absent"), str(tmp_path / "spool")]
        for log_file in (None, str(tmp_path / "gone")):
            found = find_log(guest, log_file, False, False, spools)
            assert (found.path, found.certain) == (f"{tmp_path}/spool", True)


def test_stderr_on_a_file_is_read_there(tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as err, running(stderr=err) as guest:
        found = target(guest)
        assert (found.reach, found.fd) == (LogReach.FILE, 2)
        assert target(guest, "/dev/stderr") == found
        (tmp_path / "err").unlink()
        assert target(guest).path == f"{tmp_path}/err (deleted)"
        # Of a daemon the log is its stderr, whatever else is open.
        assert target(guest, "/x.log", daemonized=True).fd == 2


def test_a_closed_stderr_is_no_log(tmp_path: Path) -> None:
    closes = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    with running(f"device:{tmp_path}/serial", before=closes) as guest:  # it becomes descriptor 2
        assert Path(f"/proc/{guest.pid}/fd/2").readlink() == tmp_path / "serial"
        assert target(guest) == LogTarget(LogReach.NULL, "a closed stderr", undo="/dev/null")
    with running(str(tmp_path / "q.log"), before=closes) as guest:
        found = target(guest, str(tmp_path / "q.log"))
        assert (found.path, found.fd, found.certain) == (f"{tmp_path}/q.log", 2, True)


def test_stderr_that_cannot_be_read(tmp_path: Path) -> None:
    with running() as guest:
        assert target(guest) == LogTarget(LogReach.NULL, "/dev/null", undo="/dev/null")
        daemon = target(guest, daemonized=True)
        assert daemon == LogTarget(LogReach.NOWHERE, undo="/dev/null")
        assert "daemonized" in str(daemon)
    with running(stderr=subprocess.PIPE) as guest:
        assert target(guest).reach is LogReach.PIPE
        assert target(guest).undo == "/dev/stderr"
    ours, theirs = socket.socketpair()
    with ours, theirs, running(stderr=theirs) as guest:
        assert target(guest).reach is LogReach.SOCKET
    leader, follower = pty.openpty()
    try:
        with running(stderr=follower) as guest:
            assert target(guest).reach is LogReach.TERMINAL
            assert "/dev/pts/" in str(target(guest))
    finally:
        os.close(leader)
        os.close(follower)


def test_a_device_or_fifo_that_d_names_is_found(tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as err:
        with running("/dev/null", stderr=err) as guest:
            assert target(guest, "/dev/null") == LogTarget(
                LogReach.NULL, "/dev/null", undo="/dev/null"
            )
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with running(str(fifo), stderr=err) as guest:
            found = target(guest, str(fifo))
            assert (found.reach, found.undo) == (LogReach.PIPE, "/dev/null")
        os.close(reader)
        leader, follower = pty.openpty()
        with running(os.ttyname(follower), stderr=err) as guest:
            found = target(guest, os.ttyname(follower))
            assert (found.reach, found.undo) == (LogReach.TERMINAL, os.ttyname(follower))
        with running(stderr=follower) as guest:  # a daemon's `logfile` of a terminal
            found = target(guest, daemonized=True)
            assert (found.reach, found.undo) == (LogReach.TERMINAL, os.ttyname(follower))
        os.close(leader)
        os.close(follower)


def test_what_cannot_be_seen_is_said() -> None:
    assert find_log(None, None, False, False).reach is LogReach.UNKNOWN
    assert find_log(None, "x", False, True).reach is LogReach.PER_THREAD
    gone = Guest(2**22 + 5, 0, "", ())
    assert target(gone).reach is LogReach.UNKNOWN


class Recorder:
    """A human monitor that notes its lines; ``answers`` are used up first."""

    def __init__(self, *answers: str) -> None:
        self.lines: list[str] = []
        self.answers = list(answers)

    async def hmp(self, line: str) -> str:
        self.lines.append(line)
        return self.answers.pop(0) if self.answers else ""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("qtctl.backends.spool.spool.runtime_folder", lambda: None)
    monkeypatch.setattr("qtctl.backends.spool.spool._SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def myself() -> Guest:
    return Guest(os.getpid(), 0, sys.executable, (), uid=os.getuid())


def test_a_spool_is_private_and_leaves_nothing_behind(cache: Path) -> None:
    spool = make_spool(myself())
    assert str(spool.path) == spool.seen
    assert spool.path.is_relative_to(cache)
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.path.parent.stat().st_mode) == 0o700
    assert spool.path.stat().st_size == 0
    remove_spool(spool.path)
    assert not spool.path.parent.exists()
    remove_spool(spool.path)  # twice is no error


def test_a_spool_is_kept_in_memory_where_it_can(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory, runtime = tmp_path / "shm", tmp_path / "run"
    memory.mkdir()
    monkeypatch.setattr("qtctl.backends.spool.spool._SHARED_MEMORY", memory)
    assert make_spool(myself()).path.is_relative_to(memory)
    monkeypatch.setattr("qtctl.backends.spool.spool.runtime_folder", lambda: runtime)
    assert make_spool(myself()).path.is_relative_to(runtime / "qtctl")
    monkeypatch.setattr("qtctl.backends.spool.spool.FREE_SPACE_BYTES", 1 << 60)
    with pytest.raises(Unsupported, match=rf"{runtime}/qtctl .*{memory} .*{cache}"):
        make_spool(myself())


class Leases:
    """Notes the resources that are leased."""

    def __init__(self) -> None:
        self.spools: list[str] = []

    async def hold(self, owner: Owner, resource: Resource) -> None:
        self.spools.append(resource.facts["spool"])


@pytest.mark.parametrize("failures", [0, 1, 2, 9])
async def test_the_next_folder_is_tried_whatever_fails(
    failures: int, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """QEMU may refuse a path, as under AppArmor, or say nothing and not open it."""
    memory, runtime = tmp_path / "shm", tmp_path / "run"
    memory.mkdir()
    monkeypatch.setattr("qtctl.backends.spool.spool._SHARED_MEMORY", memory)
    monkeypatch.setattr("qtctl.backends.spool.spool.runtime_folder", lambda: runtime)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    leases, tried = Leases(), list[Path]()

    async def point(spool: Spool) -> None:
        assert leases.spools[-1] == str(spool.path)
        assert spool.path.exists()
        tried.append(spool.path)
        if len(tried) <= failures:
            raise Unsupported("refused", hint="nothing") if tried[1:] else OSError(13, "denied")

    def facts(spool: Spool) -> dict[str, str]:
        return {"undo": "/dev/null"}

    site = cast(Any, SimpleNamespace(leasing=leases))
    making = leased_spool(site, myself(), new_owner(), "log", facts, point)
    places = [runtime / "qtctl", memory, cache / "qtctl", tmp_path]
    if failures < len(places):
        spool = await making
        assert tried[-1] == spool.path
        assert spool.path.exists()
        remove_spool(spool.path)
    else:
        with pytest.raises(Unsupported, match=rf"\(denied\), {memory} \(refused\), .*") as error:
            await making
        assert str(error.value).count("try: ") == 1
    assert [path.parent.parent for path in tried] == places[: failures + 1]
    assert not any(path.parent.exists() for path in tried)


async def test_a_redirect_that_fails_puts_the_log_back(cache: Path) -> None:
    spool = make_spool(myself())
    pipe = LogTarget(LogReach.PIPE, "stderr, a pipe", undo="/dev/null")
    with spool.path.open():  # the "guest" has it open, as after a failure QEMU might
        monitor = Recorder("Error opening logfile: Permission denied")
        with pytest.raises(Unsupported, match="Permission denied"):
            await redirect(monitor, myself(), pipe, spool)
        assert monitor.lines == [f"logfile {quoted(spool.seen)}", 'logfile "/dev/null"']
    remove_spool(spool.path)


async def test_a_redirect_is_verified_not_trusted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qtctl.backends.log.target._VERIFY_TIMEOUT_S", 0.05)
    spool = make_spool(myself())
    with pytest.raises(Unsupported, match="did not open it"):
        await redirect(Recorder(), myself(), LogTarget(LogReach.NULL, undo="/dev/null"), spool)
    remove_spool(spool.path)


async def test_putting_back_says_what_it_could_not_do(cache: Path) -> None:
    spool = make_spool(myself())
    with spool.path.open():
        assert has_open(os.getpid(), spool.path)
        note = await put_back(Recorder("no", "no"), None, "/dev/stderr", spool.path)
        assert note == "the log now goes to /dev/null: no"
        # libvirt's guests have no /dev/stderr in their own /dev.
        assert await put_back(Recorder("no such file"), None, "/dev/stderr", spool.path) == ""
        note = await put_back(Recorder("no", "no", "never"), None, "/dev/stderr", spool.path)
        assert note == "the log now goes nowhere: never"
    # Somebody else moved the log meanwhile: it is left alone.
    monitor = Recorder()
    assert await put_back(monitor, myself(), "/dev/null", spool.path) == ""
    assert monitor.lines == []
    remove_spool(spool.path)


async def test_qemu_is_never_given_a_fifo_without_a_reader(cache: Path, tmp_path: Path) -> None:
    # Opening one for writing waits for a reader; an anonymous pipe opens at once (pipe(7)).
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    spool = make_spool(myself())
    with running(str(spool.path), stderr=writer) as guest:
        monitor = Recorder()
        await put_back(monitor, guest, "/dev/stderr", spool.path)
        assert monitor.lines == ['logfile "/dev/stderr"']
        os.close(reader)
        monitor = Recorder()
        await put_back(monitor, guest, "/dev/stderr", spool.path)
        assert monitor.lines == ['logfile "/dev/null"']
    os.close(writer)
    remove_spool(spool.path)


def test_hmp_paths_are_quoted() -> None:
    assert quoted('/a b/"c"\\d') == '"/a b/\\"c\\"\\\\d"'


def keepers(spool: Path) -> list[int]:
    """Return the processes that keep a spool."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(spool) in (entry / "cmdline").read_text().split("\0"):
                found.append(int(entry.name))
    return found


def test_the_keeper_bounds_a_spool_that_nobody_reads(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qtctl.backends.spool.spool.LIMIT_BYTES", 4 * MIB)
    spool = make_spool(myself())
    start_keeper(spool.path, os.getpid())
    [keeper] = keepers(spool.path)
    try:
        with spool.path.open("ab") as file:
            file.write(b"x" * (9 * MIB))
            file.flush()
            until(lambda: spool.path.stat().st_blocks * 512 <= 4 * MIB)
            assert spool.path.stat().st_size == 9 * MIB
    finally:
        remove_spool(spool.path)
    until(lambda: not Path(f"/proc/{keeper}").exists())


def test_the_keeper_cleans_up_behind_a_guest_that_ended(cache: Path) -> None:
    with running() as guest:
        spool = make_spool(guest)
        start_keeper(spool.path, guest.pid)
        assert len(keepers(spool.path)) == 1
    until(lambda: not keepers(spool.path))
    assert not spool.path.parent.exists()


def test_a_keeper_that_cannot_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="keeper"):
        start_keeper(tmp_path / "absent", os.getpid())


def test_punching_keeps_the_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 16384)
    with path.open("r+b") as file:
        punch(file.fileno(), 0, 8192)
        punch(file.fileno(), 8192, 8192)  # nothing to do
        assert file.read() == b"\0" * 8192 + b"x" * 8192
    with path.open("rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        punch(file.fileno(), 0, 4096)


def test_a_spool_is_told_of_before_anything_is_made() -> None:
    told: list[Spool] = []

    def planned(spool: Spool) -> None:
        assert not spool.path.parent.exists()
        told.append(spool)

    spool = make_spool(myself(), planned)
    assert told == [spool]
    assert spool.path.exists()
    remove_spool(spool.path)


def test_a_removed_spool_that_is_still_open_is_not_the_log() -> None:
    spool = make_spool(myself())
    with running(str(spool.path)) as guest:
        assert [other.path for other in target(guest).others] == [str(spool.path)]
        assert find_log(guest, None, False, False, [str(spool.path)]).path == str(spool.path)
        remove_spool(spool.path)
        assert target(guest).certain
        assert target(guest, "/gone").reach is LogReach.MOVED
