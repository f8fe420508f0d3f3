"""Exports to Perfetto, loaded by Perfetto's own trace processor and asked in its SQL."""

from __future__ import annotations

import csv
import io
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Control, GuestEvent, Mark
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from tests.exports import BEGIN, DECLARED, EXTREME, Case, Record
from tests.needs import trace_processor
from tests.perfettofile import annotated
from tests.recordings import write
from tests.running import Qtctl
from tests.samples import capture, declarations_text, only_batch
from tests.simplefiles import event

Track = tuple[str, int | None, str | int]
"""What a track is, of which process, and its name, or the id of its thread."""
SECOND = 10**9


class TraceProcessor:
    """What trace processor says of a file."""

    def __init__(self, path: Path) -> None:
        self._program = trace_processor()
        self._path = path
        wrong = "severity IN ('error', 'data_loss') AND value != 0"
        assert self.ask(f"SELECT name, value FROM stats WHERE {wrong}") == []

    def ask(self, sql: str) -> list[list[str]]:
        query = self._path.with_suffix(".sql")
        query.write_text(sql)
        command = [self._program, "-q", str(query), str(self._path)]
        ran = subprocess.run(command, capture_output=True, check=False, timeout=100)
        assert ran.returncode == 0, ran.stderr.decode()
        return list(csv.reader(io.StringIO(ran.stdout.decode())))[1:]

    def tracks(self) -> dict[str, Track]:
        """Return all that have slices or counters, by their id."""
        found: dict[str, Track] = {}
        for track, name in self.ask("SELECT id, hex(name) FROM track"):
            found[track] = "global", None, text(name)
        for table in ("process_track", "process_counter_track"):
            columns = "t.id, pid, hex(t.name)"
            sql = f"SELECT {columns} FROM {table} t JOIN process USING (upid)"
            for track, pid, name in self.ask(sql):
                found[track] = "process", int(pid), text(name)
        joined = "thread_track t JOIN thread USING (utid) JOIN process USING (upid)"
        for track, pid, tid in self.ask(f"SELECT t.id, pid, tid FROM {joined}"):
            found[track] = "thread", int(pid), int(tid)
        return found

    def slices(self) -> list[tuple[int, int, Track, str, dict[str, Any]]]:
        """Return time, duration, track, name and arguments of all slices, instants among them."""
        tracks = self.tracks()
        arguments: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        columns = "arg_set_id, hex(key), value_type, int_value, hex(string_value)"
        for where, key, kind, number, said in self.ask(f"SELECT {columns} FROM args"):
            if text(key).startswith("debug."):
                value = text(said) if kind == "string" else int(number)
                arguments[where][text(key).removeprefix("debug.")] = value
        sql = "SELECT ts, dur, depth, track_id, hex(name), arg_set_id FROM slice ORDER BY ts, id"
        found = []
        for time_ns, duration, depth, track, name, where in self.ask(sql):
            assert depth == "0"
            found.append((int(time_ns), int(duration), tracks[track], text(name), arguments[where]))
        return found

    def counters(self) -> dict[Track, list[tuple[int, float]]]:
        """Return the times and values of each counter."""
        tracks = self.tracks()
        found: defaultdict[Track, list[tuple[int, float]]] = defaultdict(list)
        for time_ns, value, track in self.ask(
            "SELECT ts, value, track_id FROM counter ORDER BY ts"
        ):
            found[tracks[track]].append((int(time_ns), float(value)))
        return found


def text(in_hex: str) -> str:
    return bytes.fromhex(in_hex).decode()


def as_loaded(value: int | str) -> int | str:
    """Return an argument as trace processor has it: its numbers are signed."""
    if isinstance(value, str):
        return str(annotated(value))
    return value - (1 << 64) if value >= 1 << 63 else value


def arguments(one: Record) -> dict[str, int | str]:
    args = dict(one.get("args", {}))
    args |= {key: one[key] for key in ("line", "raw") if key in one}
    return {key: as_loaded(value) for key, value in args.items()}


def micros(one: Record) -> int | None:
    return one["time_ns"] // 1000 if "time_ns" in one else None


@pytest.mark.parametrize(
    ("name", "version", "words", "slices"),
    [
        ("qemu-10.2-simple-v4.bin", "10.2", [], 0),
        (
            "qemu-7.2-simple-v4.bin",
            "7.2",
            ["--pair", "virtio_blk_handle_read:virtio_blk_req_complete"],
            806,
        ),
        ("qemu-7.2-log-timestamp.txt", "7.2", [], 0),
        ("qemu-7.2-log-plain-mixed-with-d-output.txt", "7.2", ["--all"], 0),
    ],
)
def test_captures_of_real_guests(
    qtctl: Qtctl, tmp_path: Path, name: str, version: str, words: list[str], slices: int
) -> None:
    case = Case(qtctl, tmp_path, capture(name), declarations_text(version))
    made = TraceProcessor(case.export("perfetto", *words))
    *records, _ = case.records(*words[:1] if "--all" in words else ())
    found = made.slices()
    spans = [
        one for one in found if one[2][2] == "virtio_blk_handle_read to virtio_blk_req_complete"
    ]
    assert len(spans) == slices
    assert all(duration > 0 for _, duration, *_ in spans)
    instants = Counter(
        (time_ns // 1000 if said != "line" else None, said, frozenset(args.items()))
        for time_ns, duration, track, said, args in found
        if track[2] != "qtctl" and not duration
    )
    assert instants == Counter(
        (micros(one), one.get("name", "line"), frozenset(arguments(one).items()))
        for one in records
        if one["type"] != "loss"
    )
    # Rates are a tenth of a second each, so their sum tells how many records there were.
    rates = {
        str(track[2]).removesuffix(" rate"): sum(value for _, value in points) / 10
        for track, points in made.counters().items()
    }
    assert rates == Counter(one["name"] for one in records if one["type"] == "event")


def test_arguments_of_all_kinds(qtctl: Qtctl, tmp_path: Path) -> None:
    case = Case(qtctl, tmp_path, BEGIN + EXTREME, DECLARED)
    made = TraceProcessor(case.export("perfetto"))
    *records, _ = case.records()
    wanted: list[Any] = []
    for one in records:
        if one["type"] == "loss":
            wanted.append(
                (10, 0, ("global", None, "qtctl"), "loss", {"backend": "simple", "count": 7})
            )
        else:
            track = "process", 4711, "events"
            wanted.append((one["time_ns"], 0, track, one["name"], arguments(one)))
    assert made.slices() == sorted(wanted, key=lambda one: one[0])
    assert made.ask("SELECT clock_name FROM clock_snapshot") == []


def test_slices_that_overlap_lie_side_by_side(qtctl: Qtctl, tmp_path: Path) -> None:
    spans = [(1, 5, 1, 1), (2, 3, 1, 2), (2, 7, 1, 3), (4, 4, 2, 1), (5, 5, 1, 4), (5, 9, 1, 5)]
    moments = [(begin, 2, device, tag) for begin, _, device, tag in spans]
    moments += [(end, 3, device, tag) for _, end, device, tag in spans]
    moments.sort(key=lambda one: one[:2])
    data = b"".join(event(code, *rest) for code, *rest in ((m[1], m[0], *m[2:]) for m in moments))
    case = Case(qtctl, tmp_path, BEGIN + data, DECLARED.replace("uint64_t tag", "void *tag"))
    found = TraceProcessor(case.export("perfetto")).slices()
    assert sorted(
        (time_ns, time_ns + duration, args["dev"], args["tag"])
        for time_ns, duration, track, name, args in found
        if track == ("process", 4711, "io_submit to io_complete")
    ) == sorted(spans)
    instants = Counter(track[2] for _, _, track, *_ in found if str(track[2]).startswith("device"))
    assert instants == {"device 0x1": 10, "device 0x2": 2}


def test_guests_threads_devices_and_what_stands_between(qtctl: Qtctl, tmp_path: Path) -> None:
    declared = parse_declarations(DECLARED.replace("uint64_t tag", "void *tag")).by_name
    table = EventTable.build(None, declared)
    begun = 1_700_000_000 * SECOND

    def said(pid: int | None, lines: list[str]) -> Any:
        stamped = "".join(f"{line}\n" for line in lines).replace("@", "@1700000000.")
        return only_batch(LogDecoder(table, pid=pid).end(stamped.encode(), Clocks(begun + SECOND)))

    pair = "io_submit dev 0x7 tag 1", "io_complete dev 0x7 tag 1"
    items: list[Item] = [
        said(4711, ["4711@000001:none", f"4712@000002:{pair[0]}", f"4712@200002:{pair[1]}", "hm"]),
        Mark("here", begun + 3),
        GuestEvent("STOP", {"a": [1]}, begun + 4),
        Control("enable", ("*",), 7, begun + 5),
        Loss(Backend.LOG, None, begun + 6),
        # Another guest's submission is not ended by the first one's.
        said(4800, [f"4801@300001:{pair[0]}", pair[0]]),
        said(4711, [pair[1]]),
        said(None, ["9@000009:none", "none"]),
    ]
    write(tmp_path / "rec", items, declared)
    out = tmp_path / "out.pftrace"
    words = ("--to", "perfetto", str(tmp_path / "rec"), "--all", "-o", str(out))
    qtctl("export", *words, limit=None).said(0, "9 read, 9 shown")
    made = TraceProcessor(out)
    first, notes = ("process", 4711), ("global", None, "qtctl")
    args = {"dev": 7, "tag": 1}
    late = begun + SECOND
    wanted = [
        (begun + 3, 0, notes, "mark", {"text": "here"}),
        (begun + 4, 0, notes, "guest", {"event": "STOP", "data": '{"a": [1]}'}),
        (begun + 5, 0, notes, "control", {"action": "enable", "patterns": '["*"]', "changed": 7}),
        (begun + 6, 0, notes, "loss", {"backend": "log"}),
        (begun + 1000, 0, ("thread", 4711, 4711), "none", {}),
        (begun + 2000, 0, ("thread", 4711, 4712), "io_submit", args),
        (begun + 2000, 200_000_000, (*first, "io_submit to io_complete"), "io_submit", args),
        (begun + 9000, 0, ("global", None, "thread 9"), "none", {}),
        (begun + 200_002_000, 0, ("thread", 4711, 4712), "io_complete", args),
        (begun + 300_001_000, 0, ("thread", 4800, 4801), "io_submit", args),
        (late, 0, (*first, "log"), "line", {"line": "hm"}),
        (late, 0, ("process", 4800, "device 0x7"), "io_submit", args),
        (late, 0, (*first, "device 0x7"), "io_complete", args),
        (late, 0, ("global", None, "events"), "none", {}),
    ]
    assert sorted(made.slices(), key=str) == sorted(wanted, key=str)
    rates = {
        (first, "none"): [0],
        (first, "io_submit"): [0],
        (first, "io_complete"): [2, 10],
        (("process", 4800), "io_submit"): [3, 10],
        (("global", None), "none"): [0, 10],
    }
    assert made.counters() == {
        (*place, f"{name} rate"): [
            (begun + SECOND // 10 * (span + more), 10.0 - 10 * more)
            for span in spans
            for more in (0, 1)
        ]
        for (place, name), spans in rates.items()
    }
    clock = "SELECT clock_value FROM clock_snapshot WHERE clock_name = 'REALTIME'"
    assert made.ask(clock) == [[str(begun + 1000)]]


def test_many_records_of_one_time_are_whole(qtctl: Qtctl, tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(2000)]  # with no time but that of their arrival
    case = Case(qtctl, tmp_path, "\n".join(["none", *lines]).encode(), DECLARED)
    _, *found = TraceProcessor(case.export("perfetto", "--all")).slices()
    assert [args for *_, args in found] == [{"line": line} for line in lines]
    first = found[0][0]
    assert [time_ns for time_ns, *_ in found] == list(range(first, first + 2000))


def test_nothing(qtctl: Qtctl, tmp_path: Path) -> None:
    made = TraceProcessor(Case(qtctl, tmp_path, BEGIN, DECLARED).export("perfetto"))
    assert made.slices() == []
    assert made.counters() == {}
