"""Files that are cut, foreign, growing or confused in time, through every verb that reads files."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.events.selection import Selection
from qtctl.model import Declaration
from qtctl.recordings import chunks
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.session.replay import Replay
from tests.recordings import write
from tests.running import Qtctl
from tests.simplefiles import event, header, mapping

DECLARED = (
    'few(int8_t a, const char *s) "%d %s"\nio_start(void *req) "%p"\nio_end(void *req) "%p"\n'
)
VERBS = {
    "replay": ["replay", "{file}"],
    "ndjson": ["replay", "{file}", "--ndjson"],
    "count": ["count", "--from", "{file}"],
    "latency": ["latency", "io_start", "io_end", "--from", "{file}"],
    "diff": ["diff", "{file}", "{whole}"],
    "diff second": ["diff", "{whole}", "{file}"],
    "query": ["query", "SELECT event, count(*) FROM events GROUP BY 1", "{file}"],
    "query two": ["query", "SELECT count(*) FROM few", "{whole}", "{file}"],
    "csv": ["export", "--to", "csv", "{file}"],
    "perfetto": ["export", "--to", "perfetto", "{file}", "-o", "{out}"],
    "ctf": ["export", "--to", "ctf", "{file}", "-o", "{out}"],
    "parquet": ["export", "--to", "parquet", "{file}", "-o", "{out}"],
}


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> list[str]:
    """Give each verb that reads files, as it is typed."""
    if request.param.startswith("query") or request.param == "parquet":
        pytest.importorskip("duckdb")
    return VERBS[request.param]


def batch(data: bytes, declared: str = DECLARED) -> tuple[Batch, dict[str, Declaration]]:
    """Give the records of a simple trace's events, and their declarations."""
    known = dict(parse_declarations(declared).by_name)
    begin = header() + b"".join(mapping(n, name) for n, name in enumerate(known))
    [found] = SimpleDecoder(EventTable.build(None, known)).feed(begin + data, Clocks(0))
    assert isinstance(found, Batch)
    return found, known


def recorded(path: Path, data: bytes, declared: str = DECLARED) -> None:
    """Write a recording of a simple trace's events."""
    found, known = batch(data, declared)
    write(path, [found], known)


def some(rows: int = 12) -> bytes:
    pairs = [event(1, 10 * n, n) + event(0, 10 * n + 1, n, b"x") for n in range(rows)]
    return b"".join(one + event(2, 10 * n + 5, n) for n, one in enumerate(pairs))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of three chunks."""
    path = tmp_path_factory.mktemp("whole") / "whole"
    found, known = batch(some())
    parts = [found.select(range(at, at + 12)) for at in (0, 12, 24)]  # type: ignore[arg-type]
    write(path, parts, known, every=True)
    return path


class Case:
    """One file for all verbs."""

    def __init__(self, run: Qtctl, whole: Path, folder: Path) -> None:
        self.run, self.whole, self.folder = run, whole, folder

    def __call__(self, verb: list[str], path: Path, *words: str) -> Any:
        places = {"file": path, "whole": self.whole, "out": self.folder / "out"}
        return self.run(*words, *(word.format(**places) for word in verb), limit=None)


@pytest.fixture
def case(run: Qtctl, whole: Path, tmp_path: Path) -> Case:
    return Case(run, whole, tmp_path)


def test_a_recording_that_is_cut(case: Case, verb: list[str]) -> None:
    data = case.whole.read_bytes()
    path = case.folder / "cut"
    path.write_bytes(data[: len(data) * 2 // 3])
    case(verb, path).said(1, str(path), "records were")


def test_what_cannot_be_read_at_all(case: Case, verb: list[str]) -> None:
    newer = struct.pack("<8sI48s", b"\x89QTREC\r\n", 2, b"qtctl 9.9")
    data = {
        "newer": newer + struct.pack("<I", zlib.crc32(newer)) + b"more",
        "damaged": newer + b"xxxx" + bytes(200),
        "begun": case.whole.read_bytes()[:20],
        "empty": b"",
        "binary": bytes(range(256)),
    }
    said = {
        "newer": "version 2, written by qtctl 9.9",
        "damaged": "damaged header",
        "begun": "ends in its header",
        "empty": "is empty",
        "binary": "neither a recording",
    }
    for name, content in data.items():
        (case.folder / name).write_bytes(content)
        case(verb, case.folder / name).said(1, said[name])
        assert not (case.folder / "out").exists()
    case(verb, case.folder / "nothing").said(2, "No such file")
    (case.folder / "folder").mkdir()
    case(verb, case.folder / "folder").said(1, "without an LTTng trace")
    os.mkfifo(case.folder / "fifo")
    case(verb, case.folder / "fifo").said(2, "not a plain file")


def test_a_recording_with_foreign_declarations(case: Case, verb: list[str]) -> None:
    """Whatever they say: what does not fit stays text, and nothing is thrown away."""
    other = case.folder / "other"
    other.write_text('few(const char *s, int8_t a, void *x) "%s"\nio_start(int req) "%d"\n')
    words = ("--events-all", str(other))
    ran = case(verb, case.whole, *words)
    assert ran.code in ((2,) if "latency" in verb else (0,))
    ran = case(VERBS["ndjson"], case.whole, *words)
    *events, summary = map(json.loads, ran.out.splitlines())
    assert summary["shown"] == len(events) == 36
    assert all("raw" in one for one in events if one["name"] == "few")


def test_two_guests_that_declare_an_event_otherwise(case: Case) -> None:
    pytest.importorskip("duckdb")
    path = case.folder / "other"
    declared = 'few(const char *a, uint64_t s, void *more) "%s %lu %p"\n'
    recorded(path, event(0, 7, b"text", 2**64 - 1, 16), declared)
    sql = "SELECT file, a, s, more FROM few ORDER BY time_ns DESC LIMIT 40"
    ran = case(["query", sql, "{whole}", "{file}", "--json"], path)
    rows = json.loads(ran.said(0).out)
    assert len(rows) == 13
    [row] = [row for row in rows if row["file"] == str(path)]
    # Types that have nothing in common become text; no value is lost.
    assert (row["a"], row["s"]) == ("text", str(2**64 - 1))
    assert {row["a"] for row in rows if row["file"] != str(path)} == {str(n) for n in range(12)}
    sql = "SELECT file, count(*) n FROM events GROUP BY 1 ORDER BY 2"
    ran = case(["query", sql, "{whole}", "{file}", "--json"], path).said(0)
    assert json.loads(ran.out) == [
        {"file": str(path), "n": 1},
        {"file": str(case.whole), "n": 36},
    ]
    case(["diff", "{whole}", "{file}", "--json"], path).said(0)


def rows_of(replay: Replay) -> int:
    rows = 0
    while (items := replay.step()) is not None:
        rows += sum(len(item) for item in items if isinstance(item, Batch))
    replay.close()
    return rows


@pytest.mark.parametrize("kind", ["simple", "log"])
def test_a_file_that_grows_is_read_as_it_was(tmp_path: Path, kind: str) -> None:
    (tmp_path / "all").write_text(DECLARED)
    line = b"io_start 0x7\n"
    begin = header() + mapping(0, "few") + mapping(1, "io_start") + mapping(2, "io_end")
    one = event(1, 5, 7) if kind == "simple" else line
    data = begin + one * 9 if kind == "simple" else line * 9
    (tmp_path / "a").write_bytes(data[:-3])
    replay = Replay(tmp_path / "a", events_all=tmp_path / "all", selection=Selection(()))
    with (tmp_path / "a").open("ab") as file:
        file.write(data[-3:] + one * 100)
    # The last record of a simple trace was not whole; a line is read to its end.
    assert rows_of(replay) == (8 if kind == "simple" else 9)
    assert replay.problem == ""


@pytest.mark.parametrize("kind", ["simple", "log"])
def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "all").write_text(DECLARED)
    begin = header() + mapping(0, "few") + mapping(1, "io_start") + mapping(2, "io_end")
    data = begin + event(1, 5, 7) * 50_000 if kind == "simple" else b"io_start 0x7\n" * 100_000
    (tmp_path / "a").write_bytes(data)
    replay = Replay(tmp_path / "a", events_all=tmp_path / "all", selection=Selection(()))
    assert replay.step()
    os.truncate(tmp_path / "a", 100)
    rows_of(replay)
    assert "was cut while it was read" in replay.problem
    assert f"and had {len(data)}" in replay.problem


def stepping(kind: str, folder: Path) -> Path:
    """Write a file whose clock is set back by an hour; one pair lies across that."""
    times = [*range(10), *(n - 3600 for n in range(20, 30))]
    path = folder / kind
    if kind == "log":
        lines = [
            f"1@{1795400000 + time}.{'000000' if half == 'start' else '000500'}:io_{half} {n:#x}\n"
            for n, time in enumerate(times)
            for half in (("start",) if n == 9 else ("start", "end"))
        ]
        lines.insert(20, "1@1795396419.000000:io_end 0x9\n")
        path.write_text("".join(lines))
        return path
    second = 10**9
    data = b""
    for n, time in enumerate(times):
        at = (10**6 + time) * second
        data += event(1, at, n)
        data += event(2, at + 500_000, n) if n != 9 else event(2, at - 3590 * second, n)
    if kind == "simple":
        begin = header() + mapping(0, "few") + mapping(1, "io_start") + mapping(2, "io_end")
        path.write_bytes(begin + data)
    else:
        recorded(path, data)
    return path


@pytest.mark.parametrize("kind", ["log", "simple", "recording"])
def test_a_clock_that_steps_back(case: Case, verb: list[str], kind: str) -> None:
    path = stepping(kind, case.folder)
    (case.folder / "all").write_text(DECLARED)
    words = () if kind == "recording" else ("--events-all", str(case.folder / "all"))
    if "query" in verb and "few" in verb[1]:
        return
    ran = case([*verb, *(["--json"] if verb[0] in ("latency", "diff") else [])], path, *words)
    ran.said(0, f"{path}: times go back once, by 3,", "in the order of the file")
    match verb[0]:
        case "replay" if "--ndjson" in verb:
            events = [json.loads(line) for line in ran.out.splitlines()]
            reqs = [one["args"]["req"] for one in events if one.get("name") == "io_start"]
            assert reqs == list(range(20))
        case "latency":
            found = json.loads(ran.out)
            # In the log a pair lies across END 9, whose time is a second before its neighbours'.
            assert (found["dropped"], found["disordered"]) == (1, int(kind == "log"))
            assert (found["count"] + found["disordered"], found["max"]) == (19, 500_000)
        case "diff":
            found = json.loads(ran.out)
            side = found["b" if verb[1] == "{whole}" else "a"]
            assert 17 < side["seconds"] < 21


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("form", ["ndjson", "csv", "perfetto", "ctf", "parquet"])
def test_a_disk_that_fills_during_an_export(case: Case, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path = case.folder / "long"
    recorded(path, some(30_000))
    disk = case.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        words = ["export", "--to", form, "{file}", "-o", str(disk / "out")]
        case(words, path).said(1, "No space left on device")
        assert list(disk.iterdir()) == []  # what was not completed is removed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_recording_of_nothing(case: Case, verb: list[str]) -> None:
    """A header alone, as after a kill within the first second."""
    path = case.folder / "begun"
    path.write_bytes(case.whole.read_bytes()[: chunks.HEADER_BYTES])
    ran = case(verb, path)
    if verb[0] == "latency":
        ran.said(3, f"qtctl count --from {path}")
    elif verb == VERBS["query two"]:  # the other file has the table
        ran.said(0, "without its end")
    else:
        ran.said(2 if verb[0] == "diff" else 1, "without its end")
