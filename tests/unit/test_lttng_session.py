"""Parts of the ust backend that need no LTTng: patterns, notes, what its programs say."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.tracers import ignore_states, may_have_tracers, states_note
from qtctl.backends.ust import daemons as lttngdaemons
from qtctl.backends.ust import lttng
from qtctl.backends.ust.feed import tracer_patterns
from qtctl.commands import enable
from qtctl.commands.context import Context
from qtctl.errors import Unsupported
from qtctl.events.patterns import matcher
from qtctl.model import Backend
from qtctl.session.session import Session
from tests.running import eventually

NAMES = [f"{device}_{part}" for device in ("virtio", "virtio_gpu", "usb") for part in "abcdef"]


@given(st.sets(st.sampled_from(NAMES), min_size=1))
def test_the_tracer_is_asked_for_exactly_what_was_picked(picked: set[str]) -> None:
    includes, excludes = tracer_patterns(sorted(picked), NAMES)
    wanted, left_out = [*map(matcher, includes)], [*map(matcher, excludes)]
    got = {
        name
        for name in NAMES
        if any(test(name) for test in wanted) and not any(test(name) for test in left_out)
    }
    assert got == picked


def test_few_patterns_do() -> None:
    assert tracer_patterns(NAMES, NAMES) == (["*"], [])
    virtio = [n for n in NAMES if n.startswith("virtio") and "gpu" not in n]
    assert tracer_patterns(virtio, NAMES)[0] == ["virtio_*"]
    assert tracer_patterns(virtio, NAMES)[1] == ["virtio_gpu_*"]
    assert tracer_patterns(["usb_a"], NAMES) == (["usb_a"], [])


@pytest.mark.parametrize(
    ("known", "part"),
    [
        ([Backend.LOG], ""),
        ([Backend.NOP], ""),
        ([], ""),
        ([Backend.UST], "QMP changes nothing here: this QEMU traces to ust only"),
        ([Backend.UST, Backend.DTRACE], "ust and dtrace only"),
        ([Backend.LOG, Backend.DTRACE], "dtrace does not look at these states"),
        ([Backend.LOG, Backend.UST, Backend.DTRACE], "ust and dtrace do not look at these states"),
    ],
)
def test_states_that_decide_nothing_are_called_so(known: Collection[Backend], part: str) -> None:
    note = states_note(known)
    assert part in note
    assert bool(note) == bool(part) == bool(ignore_states(known))


@pytest.mark.parametrize(
    ("known", "quiet", "said"),
    [([Backend.UST], True, True), ([Backend.LOG, Backend.UST], True, False)],
)
async def test_quiet_hides_only_the_mixed_note(
    known: list[Backend],
    quiet: bool,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def backends() -> Any:
        return SimpleNamespace(known=known)

    monkeypatch.setattr(enable, "may_have_tracers", lambda pid: True)
    session = SimpleNamespace(guest=SimpleNamespace(pid=1), backends=backends)
    await enable._report_ignoring_backends(Context(quiet=quiet), cast(Session, session))
    assert bool(capsys.readouterr().err) == said


def test_a_process_without_tracers_costs_no_look_at_its_binary() -> None:
    assert not may_have_tracers(os.getpid())
    assert not may_have_tracers(1 << 30)


def fake_lttng(folder: Path, script: str) -> None:
    path = folder / "lttng"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put programs in LTTng's place that run a shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return lambda script: fake_lttng(tmp_path, script)


def test_no_daemon_is_told_from_a_refusal(says: Callable[[str], None]) -> None:
    says("echo 'Error: No session daemon is available' >&2; exit 1")
    with pytest.raises(lttngdaemons.NoDaemon):
        lttngdaemons.sessions()
    says("echo 'Error: Permission denied' >&2; exit 1")
    with pytest.raises(Unsupported, match="lttng list failed: Permission denied"):
        lttngdaemons.sessions()
    says("exit 1")
    with pytest.raises(Unsupported, match="code 1"):
        lttngdaemons.sessions()


def test_a_daemon_that_hangs_is_given_up(says: Callable[[str], None]) -> None:
    says("exec sleep 60")
    with pytest.raises(Unsupported, match=r"took more than 0\.2 s"):
        lttngdaemons.lttng("list", timeout_s=0.2)


def test_sessions_are_named(says: Callable[[str], None]) -> None:
    says("printf 'Available recording sessions:\\n  1) a [active]\\n    Trace output: /x\\n\\n'")
    assert lttngdaemons.sessions() == ["a"]
    says("echo 'Currently no available recording session'")
    assert lttngdaemons.sessions() == []


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("Tracing stopped", 0),
        ("Warning: 12 events were discarded, please refer", 12),
        ("Warning: 9223372036856773574 events were discarded, please refer", 1997766),
    ],
)
def test_the_sum_of_discarded_events(says: Callable[[str], None], said: str, count: int) -> None:
    says(f"echo '{said}'")
    assert lttng.stop("x") == count
    says("exit 1")
    assert lttng.stop("x") is None


def test_a_place_without_room_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(lttng, "runtime_folder", lambda: None)
    with pytest.raises(Unsupported, match="absent"):
        lttng.new_facts()


def test_the_next_folder_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp

    def full(prefix: str, dir: Path) -> str:
        if dir == tmp_path:
            raise OSError(122, "Disk quota exceeded")
        return make(prefix=prefix, dir=dir)

    (tmp_path / "run").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tempfile.mkdtemp", full)
    monkeypatch.setattr(lttng, "runtime_folder", lambda: tmp_path / "run")
    assert Path(lttng.new_facts()["folder"]).parent == tmp_path / "run"
    monkeypatch.setattr(lttng, "runtime_folder", lambda: None)
    with pytest.raises(Unsupported, match="Disk quota exceeded"):
        lttng.new_facts()


def test_only_marked_processes_are_found_and_ended(tmp_path: Path) -> None:
    mark = f"{lttngdaemons.MARK}{os.getpid()}"
    ours = subprocess.Popen(["sleep", "60", "60"])
    marked = subprocess.Popen(["bash", "-c", "read line", mark], stdin=subprocess.PIPE)
    try:
        eventually(lambda: lttngdaemons.marked(mark, "bash") == [marked.pid], "it is found")
        lttngdaemons.end_marked(mark, "bash")
        assert marked.wait(60) != 0
        assert ours.poll() is None
    finally:
        for process in (ours, marked):
            process.kill()
            process.wait()
        if marked.stdin is not None:
            marked.stdin.close()
