"""Finding guests: stand-in processes with QEMU's name, options and version text, but no QEMU."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from qtctl.errors import ConnectionFailed, UsageError
from qtctl.model import Address, Guest
from qtctl.monitor import guests, processes
from qtctl.monitor.guest_paths import visible_path
from qtctl.monitor.guests import (
    find_guest,
    listening_process,
    running_guests,
    the_only_guest,
)
from qtctl.monitor.processes import same_process, start_ticks
from tests.running import guest_by_pid

NO_PID = 4194304
VERSION = b"\0QEMU emulator version 9.8.7 (Stand-in 1:9.8)\nCopyright"


class Stage:
    """Starts stand-ins: a copy of the shell, under another name, that waits on its stdin."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def start(
        self,
        *options: str,
        program: str = "qemu-system-x86_64",
        text: bytes = VERSION,
        fds: tuple[int, ...] = (),
        cwd: Path | None = None,
        script: str = "echo; read x",
    ) -> subprocess.Popen[bytes]:
        shell = shutil.which("dash") or shutil.which("bash")
        if shell is None:
            pytest.skip("needs dash or bash to stand in for QEMU")
        copy = self.folder / program
        if not copy.exists():
            copy.write_bytes(Path(shell).read_bytes() + text)
            copy.chmod(0o700)
        process = self._stack.enter_context(
            subprocess.Popen(
                [str(copy), "-c", script, "stand-in", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=fds,
                cwd=cwd or self.folder,
                env={"PWD": str(self.folder)},
            )
        )
        self._stack.callback(process.kill)
        assert process.stdout is not None
        process.stdout.readline()  # it runs its own program by now
        return process

    def listen(self, path: str) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(1)
        return listener


@pytest.fixture
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="qtctl-") as folder, ExitStack() as stack:
        yield Stage(Path(folder), stack)


def of(process: subprocess.Popen[bytes]) -> Guest | None:
    return next((guest for guest in running_guests() if guest.pid == process.pid), None)


def test_facts_about_a_guest(stage: Stage) -> None:
    stage.listen(str(stage.folder / "q"))
    process = stage.start("-name", "guest=vm,debug-threads=on", "-qmp", "unix:q,server=on,wait=off")
    guest = guest_by_pid(process.pid)
    assert guest.name == "vm"
    assert guest.version == "9.8.7"
    assert guest.exe == str(stage.folder / "qemu-system-x86_64")
    assert guest.argv[-1] == "unix:q,server=on,wait=off"
    assert guest.cwd == str(stage.folder)
    assert guest.root == ""
    assert guest.uid == os.geteuid()
    assert guest.started == start_ticks(process.pid)


@pytest.mark.parametrize("program", ["qemu-kvm", "kvm", "qemu-7.2", "my-qemu-build"])
def test_a_renamed_build_is_known_by_its_version_text(stage: Stage, program: str) -> None:
    guest = of(stage.start(program=program))
    assert guest is not None
    assert guest.version == "9.8.7"


def test_any_binary_with_qemus_options_and_version_text_is_a_guest(stage: Stage) -> None:
    assert of(stage.start("-machine", "q35", program="vmm")) is not None
    assert of(stage.start(program="vmm")) is None


@pytest.mark.parametrize("program", ["qemu-img", "qemu-nbd", "qemu-ga", "qemu-storage-daemon"])
def test_qemus_other_tools_are_no_guests(stage: Stage, program: str) -> None:
    process = stage.start("-chardev", "x", program=program)
    assert of(process) is None
    assert find_guest(process.pid) is None


def test_a_user_mode_emulator_is_no_guest(stage: Stage) -> None:
    assert of(stage.start(program="qemu-x86_64", text=b"\0qemu-x86_64 version 7.2.22\n")) is None


def test_a_guest_without_version_text_has_none(stage: Stage) -> None:
    guest = of(stage.start(text=b""))
    assert guest is not None
    assert guest.version is None


def test_a_deleted_binary_still_counts(stage: Stage) -> None:
    process = stage.start()
    (stage.folder / "qemu-system-x86_64").unlink()
    guest = of(process)
    assert guest is not None
    assert guest.version == "9.8.7"


def test_a_fork_of_a_guest_is_no_guest(stage: Stage) -> None:
    process = stage.start("-name", "forked", script="(echo; read x); true")
    assert [guest.pid for guest in running_guests() if guest.name == "forked"] == [process.pid]


def test_the_parent_that_waits_for_daemonize_is_no_guest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, daemon = stage.start("-daemonize"), stage.start("-daemonize")
    sessions = {waiting.pid: os.getpid(), daemon.pid: NO_PID}
    real = processes.stat_number

    def stat_number(pid: int, field: int) -> int | None:
        return sessions[pid] if field == 6 and pid in sessions else real(pid, field)

    monkeypatch.setattr(guests, "stat_number", stat_number)
    assert of(daemon) is not None
    assert of(waiting) is None


def test_a_zombie_is_dead(stage: Stage) -> None:
    process = stage.start()
    started = start_ticks(process.pid)
    assert started is not None
    assert same_process(process.pid, started)
    assert not same_process(process.pid, started + 1)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(process.pid) == started
    assert not same_process(process.pid, started)
    assert find_guest(process.pid) is None


def test_no_such_process() -> None:
    assert start_ticks(NO_PID) is None
    assert not same_process(NO_PID, 1)
    assert find_guest(NO_PID) is None


def test_a_command_with_brackets_does_not_shift_the_start_time(stage: Stage) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    process = stage.start(program="a) S 1 (b")
    ticks = start_ticks(process.pid)
    assert ticks is not None
    assert abs(ticks / os.sysconf("SC_CLK_TCK") - before) < 5


def test_a_socket_belongs_to_the_process_that_listens(stage: Stage) -> None:
    path = str(stage.folder / "q.sock")
    option = f"unix:{path},server=on,wait=off"
    old = stage.listen(path)
    stale = stage.start("-qmp", option, fds=(old.fileno(),))
    assert find_guest(Address(path=path)) == guest_by_pid(stale.pid)
    Path(path).unlink()
    new = stage.listen(path)
    fresh = stage.start("-qmp", option, fds=(new.fileno(),))
    found = find_guest(Address(path=path))
    assert found is not None
    assert found.pid == fresh.pid
    assert found.addresses == (Address(path=path),)
    assert guest_by_pid(stale.pid).addresses == ()


def test_a_socket_that_no_guest_has(stage: Stage) -> None:
    path = str(stage.folder / "other.sock")
    assert find_guest(Address(path=path)) is None
    stage.listen(path)
    assert find_guest(Address(path=path)) is None
    assert find_guest(Address(host="192.0.2.1", port=9)) is None


def test_the_process_behind_a_connected_monitor(stage: Stage) -> None:
    path = str(stage.folder / "q.sock")
    fd = stage.listen(path).fileno()
    process = stage.start("-qmp", f"unix:{path},server=on,wait=off", fds=(fd,))
    guest = guest_by_pid(process.pid)
    assert listening_process(Address(path=path), process.pid) == guest
    assert listening_process(Address(path=path), os.getpid()) == guest  # it made the socket only
    assert listening_process(Address(path="/nowhere"), None) is None
    assert listening_process(Address(path="/nowhere"), NO_PID) is None
    stranger = listening_process(Address(path="/nowhere"), os.getpid())
    assert stranger is not None
    assert (stranger.pid, stranger.started) == (os.getpid(), start_ticks(os.getpid()))
    assert (stranger.name, stranger.version, stranger.addresses) == (None, None, ())


def test_tcp_is_matched_by_port_and_any_name_of_loopback(stage: Stage) -> None:
    process = stage.start("-qmp", "tcp::1,server=on,wait=off")
    found = find_guest(Address(host="localhost", port=1))
    assert found is not None
    assert found.pid == process.pid
    assert find_guest(Address(host="192.0.2.1", port=1)) is None


def test_an_inherited_socket_is_named(stage: Stage) -> None:
    path = str(stage.folder / "lib.sock")
    fd = stage.listen(path).fileno()
    chardev = f"socket,id=c,fd={fd},server=on,wait=off"
    process = stage.start("-chardev", chardev, "-mon", "chardev=c,mode=control", fds=(fd,))
    assert guest_by_pid(process.pid).addresses == (Address(path=path),)


def test_relative_paths_start_at_the_guests_folder(stage: Stage) -> None:
    stage.listen(str(stage.folder / "q"))
    process = stage.start("-qmp", "unix:q,server=on,wait=off")
    # The listener is this process's, so the address is not the stand-in's own.
    guest = guest_by_pid(process.pid)
    assert guest.addresses == ()
    assert visible_path(guest, "q") == str(stage.folder / "q")


def test_a_daemonized_guest_left_the_folder_it_started_in(stage: Stage) -> None:
    fd = stage.listen(str(stage.folder / "q-rel")).fileno()
    options = ("-daemonize", "-qmp", "unix:q-rel,server=on,wait=off")
    process = stage.start(*options, fds=(fd,), cwd=Path("/"))
    assert guest_by_pid(process.pid).addresses == (Address(path=str(stage.folder / "q-rel")),)


def test_a_path_too_long_for_a_socket_goes_through_proc_cwd(stage: Stage) -> None:
    deep = stage.folder / ("d" * 100)
    deep.mkdir()
    fd = os.open(deep, os.O_RDONLY)
    try:
        listener = stage.listen(f"/proc/self/fd/{fd}/q")
    finally:
        os.close(fd)
    options = ("-qmp", "unix:q,server=on,wait=off")
    process = stage.start(*options, fds=(listener.fileno(),), cwd=deep)
    (address,) = guest_by_pid(process.pid).addresses
    assert address.path == f"/proc/{process.pid}/cwd/q"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)


def test_names_match_exactly_and_duplicates_are_listed(stage: Stage) -> None:
    one = stage.start("-name", "twin\x1b")
    assert find_guest("twin\x1b") == guest_by_pid(one.pid)
    assert find_guest("twin") is None
    two = stage.start("-name", "twin\x1b", "-qmp", "tcp::1,server=on")
    with pytest.raises(UsageError) as caught:
        find_guest("twin\x1b")
    message = str(caught.value)
    assert str(one.pid) in message
    assert str(two.pid) in message
    assert "tcp:127.0.0.1:1" in message
    assert "\x1b" not in message


def test_the_only_guest(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = guest_by_pid(stage.start("-name", "a").pid)
    two = guest_by_pid(stage.start("-qmp", "tcp::1,server=on").pid)
    running: list[Guest] = []
    monkeypatch.setattr(guests, "running_guests", lambda: running)
    with pytest.raises(ConnectionFailed, match="no QEMU guest was found") as none:
        the_only_guest()
    assert none.value.hint
    running.append(one)
    assert the_only_guest() is one
    running.append(two)
    with pytest.raises(UsageError) as several:
        the_only_guest()
    for part in (f"{one.pid}  'a'  (no monitor)", f"{two.pid}  (no name)  tcp:127.0.0.1:1"):
        assert part in str(several.value)


def test_unreadable_facts_of_a_process_are_left_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = stage.start("-qmp", f"unix:{stage.folder}/q,server=on")

    readable = Path.open

    def refuse(*_: object) -> str:
        raise PermissionError

    def open_but_the_binary(path: Path, mode: str = "r", **options: Any) -> IO[Any]:
        if path.name == "exe":
            refuse()
        return readable(path, mode, **options)

    monkeypatch.setattr(os, "readlink", refuse)
    monkeypatch.setattr(Path, "open", open_but_the_binary)
    guest = of(process)
    assert guest is not None
    assert (guest.version, guest.root) == (None, "")
