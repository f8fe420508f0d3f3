"""``qtctl export``: read back by the tools that it is for, and compared with the records."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet as pq
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.model import Argument, Backend, Control, Declaration, GuestEvent, Kind, Mark
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from qtctl.writers.parquet import WHOLE
from tests.exports import BEGIN, DECLARED, EXTREME, HOUR, Case, Record, carried
from tests.needs import program
from tests.perfettofile import Perfetto, annotated
from tests.recordings import read, write
from tests.running import Qtctl, eventually
from tests.samples import capture, declarations_text, only_batch
from tests.simplefiles import event


@pytest.fixture
def extreme(run: Qtctl, tmp_path: Path) -> Case:
    return Case(run, tmp_path, BEGIN + EXTREME, DECLARED)


@pytest.fixture(params=["simple", "log", "text"])
def real(request: pytest.FixtureRequest, run: Qtctl, tmp_path: Path) -> Case:
    name, version = {
        "simple": ("qemu-10.2-simple-v4.bin", "10.2"),
        "log": ("qemu-7.2-log-timestamp.txt", "7.2"),
        "text": ("qemu-7.2-log-plain-mixed-with-d-output.txt", "7.2"),
    }[request.param]
    return Case(run, tmp_path, capture(name), declarations_text(version))


# ndjson and CSV


def test_ndjson_is_what_replay_prints(extreme: Case) -> None:
    lines = extreme.export("ndjson").read_text().splitlines()
    assert list(map(json.loads, lines)) == extreme.records()


def test_csv_of_all_events(real: Case) -> None:
    found = list(
        csv.DictReader(io.StringIO(real.export("csv", "--all").read_bytes().decode(), newline=""))
    )
    *wanted, _ = real.records("--all")
    assert len(found) == len(wanted)
    for row, record in zip(found, wanted, strict=True):
        args = record.pop("args", None)
        assert (json.loads(row.pop("args") or "null")) == args
        told = {key: value for key, value in row.items() if value != ""}
        assert told == {key: str(v) for key, v in record.items() if v is not None and v != ""}


def test_csv_of_one_event_has_a_column_an_argument(extreme: Case) -> None:
    text = extreme.export("csv", "odd").read_bytes().decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    odds = [row for row in found if row["type"] == "event"]
    records = extreme.events("odd")
    assert [row["u"] for row in odds] == [str(r["args"].get("u", "")) for r in records]
    assert odds[1]["s"] == 'say "hi", \\ x'
    assert odds[2]["s"] == "two\nlines\r\tand\x1b[31m\x7f\a"
    assert odds[3]["s"] == "bad \\xff\\x80 ones"
    assert odds[-1]["raw"] == "0500000000000000"
    assert [row["count"] for row in found if row["type"] == "loss"] == ["7"]


# Parquet


def partitions(out: Path) -> dict[tuple[str, str, str], list[Record]]:
    """Return the rows of each partition (guest, event, time)."""
    found: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for path in sorted(out.rglob("part-*.parquet")):
        parts = path.relative_to(out).parts[:-1]
        keys = dict(part.split("=", 1) for part in parts)
        place = keys["guest"], keys["event"], keys["time"]
        found[place] += pq.read_table(path, partitioning=None).to_pylist()
    return dict(found)


PARTITIONS = {
    ("4711", "odd", "boot+0000h"),
    ("4711", "none", "boot+0000h"),
    ("4711", "none", "boot+0001h"),
    ("4711", "notes", "boot+0000h"),
}


def test_parquet_holds_the_records_exactly(extreme: Case) -> None:
    out = extreme.export("parquet", "--all")
    found = partitions(out)
    assert set(found) == PARTITIONS
    assert {tuple(pq.read_schema(path)) for path in out.rglob("*.parquet")} == {tuple(WHOLE)}
    records = extreme.events("odd")
    rows = found["4711", "odd", "boot+0000h"]
    for row, one in zip(rows, records, strict=True):
        args = {name: carried(value) for name, value in one["args"].items()}
        assert (json.loads(row["args"]) if row["args"] else {}) == args
        own = ("time_ns", "clock", "tid", "pid", "backend", "raw")
        assert [row[name] for name in own] == [one.get(name) for name in own]
    assert rows[0]["args"].startswith('{"u": 18446744073709551615, "i": 0, ')
    assert (rows[-1]["args"], rows[-1]["raw"]) == (None, "0500000000000000")
    [note] = found["4711", "notes", "boot+0000h"]
    loss = {"type": "loss", "backend": "simple", "count": 7, "time_ns": 10}
    assert json.loads(note["args"]) == loss
    assert (note["time_ns"], note["backend"], note["clock"]) == (10, "simple", None)


def test_typed_parquet_holds_the_records_exactly(extreme: Case) -> None:
    found = partitions(extreme.export("parquet-typed"))
    assert set(found) == PARTITIONS
    assert found["4711", "none", "boot+0001h"][0]["time_ns"] == HOUR + 5
    [note] = found["4711", "notes", "boot+0000h"]
    assert (note["type"], note["count"], note["time_ns"]) == ("loss", 7, 10)
    wanted = [
        {
            "time_ns": one["time_ns"],
            "raw": one.get("raw"),
            **{
                column: carried(one["args"].get(column.rstrip("_")))
                for column in ("u", "i", "s", "p", "event_")
            },
        }
        for one in extreme.events("odd")
    ]
    rows = found["4711", "odd", "boot+0000h"]
    assert [{key: row[key] for key in wanted[0]} for row in rows] == wanted
    assert rows[0]["u"] == 2**64 - 1
    assert rows[3]["s"] == "bad \\xff\\x80 ones"


def as_whole(out: Path) -> dict[str, Callable[[], Any]]:
    """Return ways to read a folder as one table, each with what its reader does unasked."""
    every = f"{out}/**/*.parquet"
    return {
        "pandas": lambda: pandas.read_parquet(out),
        "polars": lambda: polars.read_parquet(out),
        "polars, by files": lambda: polars.read_parquet(every, hive_partitioning=True),
        "duckdb": lambda: duckdb.execute(f"FROM read_parquet('{every}')").df(),
        "duckdb, by name": lambda: duckdb.execute(
            f"FROM read_parquet('{every}', union_by_name=true)"
        ).df(),
    }


def test_parquet_is_one_table(real: Case) -> None:
    """Readers that take the columns of the first file get every column of every event."""
    out = real.export("parquet", "--all")
    *records, _ = real.records("--all")
    for reader, opened in as_whole(out).items():
        frame = opened()
        columns = [*WHOLE.names, "event", "guest", "time"]
        assert sorted(frame.columns) == sorted(columns), reader
        assert len(frame) == len(records), reader
        rows = zip(*(list(frame[name]) for name in ("event", "time_ns", "args")), strict=True)
        found = sorted((event, time, args or "") for event, time, args in rows if args is not None)
        # Pandas has NaN for the arguments that are null.
        found = [(event, time, json.loads(args)) for event, time, args in found if args == args]
        wanted = sorted(
            (one["name"], one["time_ns"], json.dumps(one["args"]))
            for one in records
            if one["type"] == "event" and "raw" not in one
        )
        events = [one for one in found if one[0] != "notes"]
        assert events == [(name, time, json.loads(args)) for name, time, args in wanted], reader


def test_typed_parquet_is_never_one_table(real: Case) -> None:
    """No reader may show the columns of one event for those of all."""
    out = real.export("parquet-typed")
    for reader, opened in as_whole(out).items():
        with pytest.raises(Exception, match=r"(?i)parquet"):
            print(reader, opened())


def test_unix_times_beside_times_since_boot(run: Qtctl, tmp_path: Path) -> None:
    """A mark has Unix time, also in a recording whose records have not."""
    case = Case(run, tmp_path, BEGIN + EXTREME, DECLARED)
    items, replay = read(case.path, events_all=tmp_path / "all")
    write(tmp_path / "rec", [*items, Mark("m", 1_700_000_000 * 10**9)], replay.table.declarations)
    case.path = tmp_path / "rec"
    found = partitions(case.export("parquet"))
    assert set(found) == {*PARTITIONS, ("4711", "notes", "2023-11-14T22")}


def test_events_called_as_other_tables(run: Qtctl, tmp_path: Path) -> None:
    declared = 'notes(int x) "%d"\nlines(int y) "%d"\nlines_(int z) "%d"\n'
    text = b"notes 1\nlines 2\nlines_ 3\nno event at all\n"
    case = Case(run, tmp_path, text, declared)
    for form in ("parquet", "parquet-typed"):
        found = partitions(case.export(form, "--all"))
        assert {event for _, event, _ in found} == {"notes_", "lines_", "lines__", "lines"}


@pytest.mark.parametrize("form", ["parquet", "parquet-typed"])
def test_parquet_is_read_by_duckdb_polars_and_dask(
    real: Case, form: str, request: pytest.FixtureRequest
) -> None:
    out = real.export(form, "--all")
    *records, _ = real.records("--all")
    wanted = Counter(one["name"] for one in records if one["type"] == "event")
    texts = sum(one["type"] == "text" for one in records)
    if texts:
        wanted["lines"] = texts
    losses = [one for one in records if one["type"] == "loss"]
    if losses:
        wanted["notes"] = len(losses)
    name = next(name for name, _ in wanted.most_common() if name not in ("lines", "notes"))
    times = sorted(one["time_ns"] for one in records if one.get("name") == name)
    keys = ("guest=*", f"event={name}", "time=*")
    if form == "parquet-typed":
        keys = (keys[1], keys[0], keys[2])
    pattern = "/".join((str(out), *keys, "*.parquet"))

    with duckdb.connect() as link:
        every = (
            f"read_parquet('{out}/**/part-*.parquet', hive_partitioning=true, union_by_name=true)"
        )
        sql = f"SELECT event, count(*) FROM {every} GROUP BY event"
        assert dict(link.execute(sql).fetchall()) == wanted
        sql = f"SELECT time_ns FROM read_parquet('{pattern}') ORDER BY 1"
        assert [row[0] for row in link.execute(sql).fetchall()] == times

    frame = polars.scan_parquet(pattern, hive_partitioning=True)
    assert sorted(frame.collect()["time_ns"].to_list()) == times
    assert frame.select("event").unique().collect().item() == name

    if request.node.callspec.params["real"] != "log":
        return  # a cluster of Dask takes long to start
    script = Path(__file__).with_name("dask_reader.py")
    command = [sys.executable, str(script), pattern, name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == times


# CTF

_LINE = re.compile(
    rb'\[(\d+)\] \([^)]*\) (\w+): \{ pid = (-?\d+), backend = "(\w*)", guest = "" \}, '
    rb"\{ tid = (-?\d+), arrived = (\d) \}, \{ (.*)\}\n"
)
_FIELD = re.compile(rb'(\w+) = ("(?:[^"\\]|\\.)*"|0x[0-9A-F]+|-?\d+)')
_ESCAPES = {b"a": 7, b"b": 8, b"e": 27, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11}


def unescaped(text: bytes) -> str:
    def one(match: re.Match[bytes]) -> bytes:
        if match[1].startswith(b"x"):
            return bytes([int(match[1][1:], 16)])
        return bytes([_ESCAPES.get(match[1], match[1][0])])

    plain = re.sub(rb"\\(x[0-9a-f]{2}|.)", one, text[1:-1])
    return plain.decode("utf-8", "surrogateescape")


def read_ctf(out: Path) -> tuple[list[Record], str]:
    """Read a trace with babeltrace2, as records in its order; and what it warns of."""
    command = [program("babeltrace2", "babeltrace2"), "--clock-cycles", str(out)]
    ran = subprocess.run(command, capture_output=True, check=True, timeout=60)
    found = []
    for line in ran.stdout.splitlines(keepends=True):
        match = _LINE.fullmatch(line)
        assert match, line
        fields = {
            key.decode(): unescaped(value) if value.startswith(b'"') else int(value, 0)
            for key, value in _FIELD.findall(match[7])
        }
        pid, tid = int(match[3]), int(match[5])
        found.append(
            {
                "name": match[2].decode(),
                "time_ns": int(match[1]),
                "pid": None if pid < 0 else pid,
                "tid": None if tid < 0 else tid,
                "backend": match[4].decode(),
                "arrived": match[6] == b"1",
                "args": fields,
            }
        )
    return found, ran.stderr.decode()


def as_ctf(record: Record) -> Record:
    """Return a record of ours as :func:`read_ctf` tells it."""
    own = {key: record.get(key) for key in ("name", "time_ns", "pid", "tid", "backend")}
    args = {"raw": record["raw"]} if "raw" in record else dict(record["args"])
    for key, value in args.items():
        args[key] = value.replace("\0", "\\x00") if isinstance(value, str) else value
    return {**own, "arrived": record["clock"] == "arrival", "args": args}


def test_ctf_is_read_by_babeltrace2(real: Case) -> None:
    found, _ = read_ctf(real.export("ctf"))
    wanted = sorted(map(as_ctf, real.events()), key=lambda one: one["time_ns"])
    assert [one for one in found if one["name"] != "qtctl_note"] == wanted


def test_ctf_holds_the_records_exactly(extreme: Case) -> None:
    found, warned = read_ctf(extreme.export("ctf"))
    wanted = sorted(map(as_ctf, extreme.events()), key=lambda one: one["time_ns"])
    assert [one for one in found if one["name"] != "qtctl_note"] == wanted
    [loss] = [json.loads(one["args"]["note"]) for one in found if one["name"] == "qtctl_note"]
    assert loss == {"type": "loss", "backend": "simple", "count": 7, "time_ns": 10}
    assert "discarded 7 events" in warned


def test_ctf_holds_lines_too(run: Qtctl, tmp_path: Path) -> None:
    case = Case(run, tmp_path, b'"x"\\ \xff\nodd 1 2 a 0x3 4\n', DECLARED)
    found, _ = read_ctf(case.export("ctf", "--all"))
    assert [(one["name"], one["args"]) for one in found] == [
        ("qtctl_line", {"line": '"x"\\ \udcff'}),
        ("odd", {"u": 1, "i": 2, "s": "a", "p": 3, "event": 4}),
    ]


# Perfetto


def test_perfetto_holds_the_records(real: Case) -> None:
    trace = Perfetto(real.export("perfetto", "--all").read_bytes())
    *records, _ = real.records("--all")
    found = [
        (time_ns, name, trace.args(one))
        for time_ns, track, one, name in trace.of("INSTANT")
        if trace.tracks[track].name != "qtctl"
    ]
    wanted = []
    for one in records:
        if one["type"] == "text":
            wanted.append((one.get("time_ns"), "line", {"line": annotated(one["line"])}))
        elif one["type"] == "event":
            args = {key: annotated(value) for key, value in one["args"].items()}
            if "raw" in one:
                args["raw"] = annotated(one["raw"])
            wanted.append((one["time_ns"], one["name"], args))
    assert [one[1:] for one in found] == [one[1:] for one in wanted]
    apart = [one[0] - other[0] for one, other in zip(found, wanted, strict=True) if other[0]]
    assert all(0 <= more < len(records) for more in apart)
    threads = {one["tid"] for one in records if one.get("tid") is not None}
    names = {track.name for track in trace.tracks.values()}
    assert {f"thread {tid}" for tid in threads} <= names
    rates = trace.of("COUNTER")
    assert sum(one.counter_value for _, _, one, _ in rates) == 10 * sum(
        one["type"] == "event" for one in records
    )


def test_perfetto_carries_extreme_values_and_losses(extreme: Case) -> None:
    trace = Perfetto(extreme.export("perfetto").read_bytes())
    found = [(name, trace.args(one)) for _, _, one, name in trace.of("INSTANT")]
    wanted = []
    for one in extreme.records()[:-1]:
        if one["type"] == "loss":
            wanted.append(("loss", {"backend": "simple", "count": 7}))
            continue
        args = {key: annotated(value) for key, value in one["args"].items()}
        wanted.append((one["name"], args or ({"raw": one["raw"]} if "raw" in one else {})))
    assert found == wanted


def test_perfetto_has_slices_side_by_side(run: Qtctl, tmp_path: Path) -> None:
    spans = [
        (100, 500, 1, 1),
        (200, 300, 1, 2),
        (250, 700, 1, 3),
        (400, 450, 2, 1),
        (500, 500, 1, 4),
    ]
    moments = [(s, 2, dev, tag) for s, _, dev, tag in spans] + [
        (e, 3, dev, tag) for _, e, dev, tag in spans
    ]
    moments.sort(key=lambda one: one[:2])
    data = b"".join(event(code, time_ns, dev, tag) for time_ns, code, dev, tag in moments)
    declared = DECLARED.replace("uint64_t tag", "void *tag")
    case = Case(run, tmp_path, BEGIN + data, declared)
    trace = Perfetto(case.export("perfetto").read_bytes())
    assert sorted(trace.slices()) == sorted((s, e, "io_submit") for s, e, _, _ in spans)
    parents = {
        trace.tracks[trace.tracks[track].parent_uuid].name
        for _, track, _, _ in trace.of("SLICE_BEGIN")
    }
    assert parents == {"device 0x1", "device 0x2"}
    assert {track.process.pid for track in trace.tracks.values() if track.HasField("process")} == {
        4711
    }
    assert not trace.clocks  # monotonic


def test_perfetto_slices_of_pairs_that_are_asked_for(run: Qtctl, tmp_path: Path) -> None:
    case = Case(run, tmp_path, capture("qemu-7.2-simple-v4.bin"), declarations_text("7.2"))
    pair = "virtio_blk_handle_read:virtio_blk_req_complete"
    trace = Perfetto(case.export("perfetto", "--pair", pair).read_bytes())
    reads = sum(one["name"] == "virtio_blk_handle_read" for one in case.events())
    assert len(trace.slices()) == reads == 806


def test_unix_times_are_told_to_be_so(run: Qtctl, tmp_path: Path) -> None:
    case = Case(run, tmp_path, b"7@1700000000.000001:none\n", DECLARED)
    trace = Perfetto(case.export("perfetto").read_bytes())
    clocks = {one.clock_id: one.timestamp for one in trace.clocks}
    assert clocks == {1: 1_700_000_000_000_001_000, 6: 1_700_000_000_000_001_000}


# All of them

FORMATS = ["ndjson", "csv", "perfetto", "parquet", "parquet-typed", "ctf"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_of_nothing_is_whole(run: Qtctl, tmp_path: Path, form: str) -> None:
    case = Case(run, tmp_path, BEGIN, DECLARED)
    out = case.export(form)
    if form == "ctf":
        assert (out / "metadata").read_text().startswith("/* CTF 1.8 */")
    if form == "csv":
        assert len(out.read_text().splitlines()) == 1
    mode = out.stat().st_mode & 0o777
    assert mode == (0o700 if out.is_dir() else 0o600)


@pytest.mark.parametrize("form", FORMATS)
def test_recordings_with_whatever_in_them(run: Qtctl, tmp_path: Path, form: str) -> None:
    strange = 'a"b/..\n\udcff'
    number = Argument(strange, "uint64_t", Kind.INTEGER, 64, False)
    declared = {strange: Declaration(strange, (number,), "%" + "lu")}
    table = EventTable.build([strange, "virtio_ok"], declared)
    data = b"virtio_ok 1\nno event\n"
    batch = only_batch(LogDecoder(table).end(data, Clocks(5)))
    strange_batch = replace(batch.select(np.array([0])), event=np.zeros(1, np.int32))
    notes: list[Item] = [
        Loss(Backend.LOG, None, 3),
        Mark("reset \ud800 \udcff", 4),
        GuestEvent("STOP", {"a": [1]}, 4),
        Control("enable", ("*",), 7, 4),
    ]
    write(tmp_path / "rec", [*notes, batch, strange_batch], declared)
    out = tmp_path / "out"
    ran = run("export", "--to", form, str(tmp_path / "rec"), "--all", "-o", str(out), limit=None)
    ran.said(0, "3 read, 3 shown")
    if form == "ctf":
        found, _ = read_ctf(out)
        kinds = [one["name"] for one in found]
        assert kinds == ["qtctl_note"] * 4 + ["virtio_ok", "qtctl_line", "a_b_____"]
    if form.startswith("parquet"):
        assert {place[1] for place in partitions(out)} >= {"virtio_ok", "lines", "notes"}


@pytest.mark.parametrize("form", FORMATS)
def test_selection_filter_and_refusals(run: Qtctl, tmp_path: Path, form: str) -> None:
    case = Case(run, tmp_path, BEGIN + EXTREME, DECLARED)
    out = case.export(form, "odd", "none", "--where", "u > 0x8000000000000000", "--max-events", "2")
    before = sorted(path.stat().st_mtime_ns for path in [out, *out.rglob("*")])
    words = ("export", "--to", form, str(case.path), "--events-all", str(tmp_path / "all"))
    run(*words, "-o", str(out)).said(2, "exists")
    assert sorted(path.stat().st_mtime_ns for path in [out, *out.rglob("*")]) == before
    run(*words, "nothing_of_this", "-o", str(tmp_path / "new")).said(3)
    assert not (tmp_path / "new").exists()
    if form not in ("ndjson", "csv"):
        run(*words).said(2, "-o OUT")
    if form != "perfetto":
        run(*words, "--pair", "a,b", "-o", str(tmp_path / "new")).said(2, "--to perfetto")
    else:
        run(*words, "--pair", "odd,nine", "-o", str(tmp_path / "new")).said(2, "not a pair")
        run(*words, "--pair", "odd,none", "-o", str(tmp_path / "new")).said(2, "odd,none,KEY")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", ["csv", "perfetto", "parquet", "parquet-typed", "ctf"])
def test_a_cut_file_is_exported_and_told(run: Qtctl, tmp_path: Path, form: str) -> None:
    case = Case(run, tmp_path, (BEGIN + event(1, 5) + event(1, 6))[:-2], DECLARED)
    out = case.export(form, code=1)
    assert out.exists()


@pytest.mark.parametrize("form", FORMATS)
def test_ctrl_c_removes_what_was_not_completed(run: Qtctl, tmp_path: Path, form: str) -> None:
    case = Case(run, tmp_path, BEGIN + event(1, 5) * 3_000_000, DECLARED)
    out = tmp_path / "out"
    words = ("export", "--to", form, str(case.path), "--events-all", str(tmp_path / "all"))
    running = run.start(*words, "-o", str(out))
    eventually(out.exists, "it has begun")
    running.signal(signal.SIGINT)
    ran = running.finish(None)
    assert ran.code == 130 or b"shown" in ran.raw_err
    if ran.code == 130:
        assert not out.exists(), ran.err
        assert "is removed" in ran.err


def test_a_full_disk_is_told(run: Qtctl, tmp_path: Path) -> None:
    case = Case(run, tmp_path, BEGIN + event(1, 5) * 100_000, DECLARED)
    words = ("export", "--to", "perfetto", str(case.path), "--events-all", str(tmp_path / "all"))
    limited = ["prlimit", f"--fsize={1 << 16}"]
    out = tmp_path / "out"
    ran = run(*words, "-o", str(out), before=limited, limit=None)
    ran.said(1, "cannot write the export: File too large")
    assert not out.exists()
