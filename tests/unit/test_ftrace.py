"""Finding tracefs: what is missing, and how to get it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from qtctl.backends.ftrace.feed import make_instance
from qtctl.backends.ring import tracefs as ftrace
from qtctl.backends.ring.threads import Threads
from qtctl.backends.table import candidates
from qtctl.backends.unix_time import unix_offset_ns
from qtctl.errors import Unsupported
from qtctl.model import Backend


def tracefs(folder: Path) -> Path:
    (folder / "instances").mkdir(parents=True)
    (folder / "trace_marker").touch()
    return folder


def test_the_first_place_that_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tracefs(tmp_path / "debug")
    monkeypatch.setattr(ftrace, "PLACES", (tmp_path / "none", there))
    assert ftrace.find_tracefs() == there


def test_not_mounted_names_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tracefs" not in Path("/proc/filesystems").read_text():
        pytest.skip("a kernel without tracefs")
    monkeypatch.setattr(ftrace, "PLACES", (tmp_path / "none",))
    with pytest.raises(Unsupported, match="not mounted") as raised:
        ftrace.find_tracefs()
    assert f"mount -t tracefs nodev {tmp_path}/none" in raised.value.hint


def test_closed_to_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tracefs(tmp_path / "tracing")
    monkeypatch.setattr(ftrace, "PLACES", (there,))

    def closed(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(Unsupported, match="only root may read") as raised:
        ftrace.find_tracefs()
    assert "root" in raised.value.hint


def test_a_folder_that_is_no_tracefs_leaves_nothing(tmp_path: Path) -> None:
    there = tracefs(tmp_path / "tracing")
    with pytest.raises(Unsupported, match=r"cannot set up the tracefs instance .*trace_clock"):
        make_instance(there / "instances/qtctl-1-1")
    assert list((there / "instances").iterdir()) == []


def test_in_a_pid_namespace_threads_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[4026532000]")
    with pytest.raises(Unsupported, match="container"):
        ftrace.check_namespace()


def test_a_qemu_that_could_not_open_the_marker_is_told_how() -> None:
    with pytest.raises(Unsupported, match="no ftrace backend; it has log") as raised:
        candidates([Backend.LOG], "ftrace", "unix:/qmp")
    assert "as root" in raised.value.hint


def test_clocks_differ_by_what_the_system_says() -> None:
    one, two = unix_offset_ns(), unix_offset_ns()
    assert abs(one - two) < 50_000_000


def test_threads_have_owners(tmp_path: Path) -> None:
    (tmp_path / "saved_tgids").write_text(f"4194308 {os.getpid()}\n4194309 77\n")
    tids = np.array([os.getpid(), 1, 4194308, 4194309, 4194310], np.int32)
    own, unknown = Threads(os.getpid(), tmp_path).own(tids)
    assert own.tolist() == [True, False, True, False, False]
    assert unknown.tolist() == [False, False, False, False, True]
