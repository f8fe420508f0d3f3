"""Text of every kind that people save: its records, what it says of losses, or what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.syslog.notices import REPEAT_LIMIT, expand_repeats, read_notice
from qtctl.errors import QtctlError
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.items import Loss
from qtctl.session.replay import Replay
from tests.recordings import read
from tests.running import Qtctl
from tests.samples import capture, declarations_text

HEAD = "Nov 22 21:39:36 vm qemu-system-x86_64[4711]: "
EVENT = "virtio_blk_req_complete vdev 0x1 req {:#x} status 0"


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("declared") / "all"
    path.write_text(declarations_text("7.2"))
    return path


def records(path: Path, declared: Path) -> tuple[list[Record], list[Loss], Replay]:
    """Read a file: its events, its losses."""
    items, replay = read(path, events_all=declared, text=False)
    events = [one for item in items if isinstance(item, Batch) for one in item.records()]
    return events, [item for item in items if isinstance(item, Loss)], replay


def test_text_of_ftrace_has_its_threads_and_times(tmp_path: Path, declared: Path) -> None:
    text = capture("qemu-7.2-ftrace-trace_pipe-with-kvm.txt")
    marks = re.findall(rb"-(\d+) .* (\d+)\.(\d{6}): tracing_mark_write: (\w+) ", text)
    (tmp_path / "a").write_bytes(text)
    events, losses, replay = records(tmp_path / "a", declared)
    assert len(losses) == text.count(b" EVENTS]\n") > 0
    assert replay.counts.read == text.count(b"\n") - len(losses)
    assert [(e.name, e.tid, e.time_ns) for e in events] == [
        (name.decode(), int(tid), int(s) * 10**9 + int(us) * 1000) for tid, s, us, name in marks
    ]
    assert {(e.clock, e.backend, e.raw, e.pid) for e in events} == {
        (Clock.MONOTONIC, "ftrace", None, None)
    }
    # However many bytes are read at a time; and a file that is cut is read to its end.
    (tmp_path / "b").write_bytes(text[:-7])
    assert records(tmp_path / "b", declared)[0][:-1] == events[:-1]


def test_losses_that_ftrace_tells_are_told(tmp_path: Path, declared: Path) -> None:
    line = f"           <...>-77      [001] ...1. 23.527857: tracing_mark_write: {EVENT}\n"
    text = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 3/45   #P:2\n#\n"
    text += line.format(1) + "CPU:1 [LOST 673 EVENTS]\n" + line.format(2) + "CPU:0 [LOST EVENTS]\n"
    (tmp_path / "a").write_text(text + line.format(3))
    events, losses, replay = records(tmp_path / "a", declared)
    assert [e.args["req"] for e in events] == [1, 2, 3]
    assert [(one.count, one.time_ns) for one in losses] == [
        (42, 0),
        (673, 23_527_857_000),
        (None, 23_527_857_000),
    ]
    assert (replay.counts.lost, replay.counts.unknown_losses) == (715, 1)


def test_what_a_system_log_squashed_or_dropped_is_told(tmp_path: Path, declared: Path) -> None:
    lines = [
        HEAD + EVENT.format(1),
        HEAD + f"message repeated 3 times: [ {EVENT.format(2)}]",
        "Nov 22 21:39:37 vm rsyslogd: imuxsock[pid: 4711, name: /usr/bin/qemu-system-x86_64, "
        "uid: 0]: 12 messages lost due to rate-limiting (10 allowed within 5 seconds)",
        "Nov 22 21:39:37 vm rsyslogd: imuxsock[pid: 99, name: /usr/bin/other, uid: 0]: 5 messages "
        "lost due to rate-limiting (10 allowed within 5 seconds)",
        HEAD + EVENT.format(3),
        "Nov 22 21:39:38 vm systemd-journald[1]: Suppressed 30 messages from "
        "machine-qemu\\x2d1\\x2dvm1.scope",
        "Nov 22 21:39:38 vm systemd-journald[1]: Suppressed 70 messages from nginx.service",
        HEAD + f"message repeated {10**12} times: [ {EVENT.format(4)}]",
        HEAD + EVENT.format(5),
        "Nov 22 21:39:39 vm rsyslogd: imuxsock[pid: 4711, name: /usr/bin/qemu-system-x86_64] from "
        "<vm:qemu-system-x86_64>: begin to drop messages due to rate-limiting",
    ]
    (tmp_path / "a").write_text("\n".join(lines) + "\n")
    events, losses, _ = records(tmp_path / "a", declared)
    expected = [1, 2, 2, 2, 3, *[4] * (REPEAT_LIMIT - 3), 5]
    assert [e.args["req"] for e in events] == expected
    assert not any(e.raw for e in events)
    assert [one.count for one in losses] == [12, 30, 10**12 - REPEAT_LIMIT + 3, None]
    seconds = [one.time_ns // 10**9 - events[0].time_ns // 10**9 for one in losses]
    assert seconds == [0, 0, 0, 0]  # of the record before


@given(st.binary(max_size=80), st.integers(0, 30))
def test_lines_that_are_not_squashed_stay(noise: bytes, times: int) -> None:
    assert expand_repeats(noise) == (noise, 0)
    read_notice(noise)
    one = noise.replace(b"\n", b"").replace(b"\r", b"")
    found, left = expand_repeats(b"h p[1]: message repeated %d times: [ %s]\n" % (times, one))
    assert left == 0
    assert found.count(b"h p[1]: ") >= times


def test_lines_cut_anywhere_by_reading_are_written_out(tmp_path: Path, declared: Path) -> None:
    """A file of many pieces, so that squashed lines lie across two of them."""
    squashed = HEAD + f"message repeated 2 times: [ {EVENT}]\n"
    (tmp_path / "a").write_text("".join(squashed.format(n) for n in range(9000)))
    assert (tmp_path / "a").stat().st_size > 1 << 20
    events, losses, _ = records(tmp_path / "a", declared)
    assert losses == []
    assert [e.args["req"] for e in events] == [n for n in range(9000) for _ in range(2)]


def test_datagrams_of_syslog_are_read(tmp_path: Path, declared: Path) -> None:
    text = capture("qemu-7.2-syslog-datagrams.txt")
    (tmp_path / "a").write_bytes(text)
    events, _, replay = records(tmp_path / "a", declared)
    assert len(events) == replay.counts.read == text.count(b"\n")
    assert {(e.clock, e.raw) for e in events} == {(Clock.REALTIME, None)}


def own_outputs(run: Qtctl, log: Path, declared: Path, folder: Path) -> dict[str, Path]:
    """Return files of what qtctl prints and exports."""
    words = ("--events-all", str(declared))
    kinds = {
        "shown": ("replay", str(log), "-q"),
        "delta": ("replay", str(log), "-q", "--time", "delta"),
        "bare": ("replay", str(log), "-q", "--time", "none"),
        "ndjson": ("replay", str(log), "-q", "--ndjson"),
        "csv": ("export", "--to", "csv", str(log), "-q"),
    }
    made = {}
    for name, verb in kinds.items():
        made[name] = folder / name
        made[name].write_bytes(run(*words, *verb, limit=None).said(0).raw)
    return made


def test_what_qtctl_printed_is_no_recording(run: Qtctl, tmp_path: Path, declared: Path) -> None:
    (tmp_path / "log").write_bytes(
        b"".join(capture("qemu-7.2-log-timestamp.txt").splitlines(True)[:99])
    )
    for path in own_outputs(run, tmp_path / "log", declared, tmp_path).values():
        for known in ((), ("--events-all", str(declared))):
            ran = run(*known, "replay", str(path))
            ran.said(1, f"{path} is what qtctl printed or exported", "qtctl record -o")
    ran = run("count", "--from", str(tmp_path / "ndjson")).said(1, "qtctl record -o")
    ran = run("export", "--to", "csv", str(tmp_path / "csv")).said(1, "qtctl record -o")
    assert ran.out == ""


@pytest.mark.parametrize(
    ("data", "says", "hint"),
    [
        (b"", "is empty", ""),
        (b"\x1f\x8b\x08xxx", "packed with gzip", "gzip -d"),
        (b"\x28\xb5\x2f\xfdxxx", "packed with zstd", "zstd -d"),
        (b"\xfd7zXZ\0xxx", "packed with xz", "xz -d"),
        (b"BZh9xxx", "packed with bzip2", "bzip2 -d"),
        (b"\x04\x22\x4d\x18xxx", "packed with lz4", "lz4 -d"),
        (b"\x17\x08\x44tracing6\0", "what trace-cmd recorded", "trace-cmd report"),
        (b"PERFILE2\0", "what perf recorded", "perf script"),
        (b"PAR1\0", "a Parquet file", "DuckDB"),
        (b"\x7fELF\0", "neither a recording", "qtctl replay --help"),
        (b"what is\nthis?\n", "no record in the first 14 bytes", "qtctl replay --help"),
        (b"what is\nmy_event a 1\n", "no record in the first 21 bytes", "--events-all"),
        (b"1@2.000003:event\n", "no record in the first 17 bytes", "--events-all"),
        (
            b"[21:39:44.832592924] (+?.?????????) vm qemu:own: { cpu_id = 1 }, { a = 1 }\n"
            b"[21:39:44.832592999] (+0.000000075) vm qemu:own: { cpu_id = 1 }, { a = 1 }\n",
            "what babeltrace2 printed",
            "folder of the trace",
        ),
    ],
)
def test_what_is_something_else_is_named(
    tmp_path: Path,
    declared: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    says: str,
    hint: str,
) -> None:
    share = tmp_path / "share" / "qemu"
    share.mkdir(parents=True)
    (share / "trace-events-all").write_text(declared.read_text())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(QtctlError, match=re.escape(says)) as raised:
        read(tmp_path / "a")
    assert hint in raised.value.hint
    assert raised.value.exit_code == 1


def test_a_log_without_any_event_is_told_at_its_end(
    run: Qtctl, tmp_path: Path, declared: Path
) -> None:
    (tmp_path / "a").write_text("IN:\n0x1: nop\nmy_event\n")
    words = ("--events-all", str(declared), "replay", str(tmp_path / "a"))
    ran = run(*words, "--all").said(1, "no record in the first 22 bytes", "--events-all")
    assert "0x1: nop" in ran.out
    found = json.loads(run(*words, "--ndjson").said(1).out.splitlines()[-1])
    assert (found["read"], found["filtered"]) == (3, 3)
