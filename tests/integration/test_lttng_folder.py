"""Folders that real LTTng wrote, of a C provider in QEMU's place, through every verb for files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.provider.lttng import DECLARED, Provider, build, recording
from tests.running import Qtctl

COUNT, PAIRS = 3000, 60
WANTED = {"own_count": COUNT, "own_submit": PAIRS, "own_complete": PAIRS}
WANTED |= {"own_text": 2, "own_nothing": 1}
EVENTS = ("own_*",)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("provider"))


@pytest.fixture
def provider(program: Path) -> Iterator[Provider]:
    running = Provider(program)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def traced(program: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return a folder with all that the provider can say, and its pid."""
    folder = tmp_path_factory.mktemp("traced") / "trace"
    running = Provider(program)
    try:
        with recording(folder, running.process.pid, *EVENTS):
            for words in (f"count {COUNT}", f"pairs {PAIRS}", "texts"):
                running.tell(words)
    finally:
        running.stop()
    return folder, running.process.pid


@pytest.fixture
def trace(traced: tuple[Path, int]) -> Path:
    return traced[0]


@pytest.fixture(params=["declared", "alone"])
def words(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Give the options that say where declarations are; and none: a trace declares itself."""
    (tmp_path / "declared").write_text(DECLARED if request.param == "declared" else "")
    return ["--events-all", str(tmp_path / "declared")]


def objects(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_replay_has_every_record_byte_and_thread(
    qtctl: Qtctl, traced: tuple[Path, int], words: list[str]
) -> None:
    trace, pid = traced
    ran = qtctl(*words, "replay", str(trace), "--ndjson", limit=None).said(0, "0 lost")
    *events, summary = objects(ran.out)
    assert Counter(one["name"] for one in events) == WANTED
    assert summary["read"] == summary["shown"] == len(events)
    assert not any("raw" in one for one in events)
    assert {(one["type"], one["backend"], one["tid"]) for one in events} == {("event", "ust", pid)}
    times = [one["time_ns"] for one in events]
    assert times == sorted(times)
    assert {one["clock"] for one in events} == {"realtime"}
    counted = [one["args"]["n"] for one in events if one["name"] == "own_count"]
    assert counted == list(range(COUNT))
    texts = [one["args"] for one in events if one["name"] == "own_text"]
    everything = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    assert texts[0] == {"dev": 2**64 - 1, "name": everything, "ret": -1}
    assert texts[1]["ret"] == 7
    printed = subprocess.run(
        ["babeltrace2", "--clock-seconds", trace], capture_output=True, check=True, timeout=60
    ).stdout
    found = re.findall(rb"^\[(\d+)\.(\d{9})\] \(\S+\) \S+ qemu:(\w+): ", printed, re.M)
    assert [(int(s) * 10**9 + int(ns), name.decode()) for s, ns, name in found] == [
        (one["time_ns"], one["name"]) for one in events
    ]
    ran = qtctl(*words, "replay", str(trace), "own_count", "--where", "n == 77", "-q", limit=None)
    assert ran.said(0).out.endswith(f" {pid} own_count n=77\n")
    qtctl(*words, "replay", str(trace), "nothing*", limit=None).said(3)
    qtctl(*words, "replay", str(trace), "--where", "m == 77", limit=None).said(2, "m")


def test_it_is_counted_and_measured(qtctl: Qtctl, trace: Path, words: list[str]) -> None:
    ran = qtctl(*words, "count", "--from", str(trace), "--json", limit=None).said(0)
    groups = json.loads(ran.out)["groups"]
    assert {one["value"]: one["count"] for one in groups} == WANTED
    ask = ("count", "own_count", "--hist", "n", "--from", str(trace), "--json")
    found = json.loads(qtctl(*words, *ask, limit=None).said(0).out)
    assert (found["count"], found["max"]) == (COUNT, COUNT - 1)
    pairs = ("latency", "own_submit", "own_complete", "--from", str(trace), "--json")
    ran = qtctl(*words, *pairs, limit=None).said(0, "pairs have the same req")
    found = json.loads(ran.out)
    assert (found["count"], found["in_flight"], found["unpaired"]) == (PAIRS, 0, 0)
    assert 1_000_000 <= found["p50"] < 1_000_000_000


def test_it_is_compared(qtctl: Qtctl, trace: Path, words: list[str], tmp_path: Path) -> None:
    ask = ("diff", str(trace), str(trace), "--pair", "own_submit,own_complete")
    assert qtctl(*words, *ask, limit=None).said(0).out == "no differences\n"
    found = json.loads(qtctl(*words, *ask, "--json", limit=None).said(0).out)
    assert {one["name"]: one["counts"] for one in found["events"]} == {
        name: [count, count] for name, count in WANTED.items()
    }
    assert found["latencies"][0]["a"]["count"] == PAIRS


def test_it_is_asked_in_sql(qtctl: Qtctl, trace: Path, words: list[str]) -> None:
    pytest.importorskip("duckdb")
    ask = ("query", "SELECT event, count(*) n FROM events GROUP BY 1", str(trace), "--json")
    found = json.loads(qtctl(*words, *ask, limit=None).said(0).out)
    assert {one["event"]: one["n"] for one in found} == WANTED
    sql = "SELECT sum(n) s, count(*) c FROM own_count JOIN own_submit ON n = number"
    [found] = json.loads(qtctl(*words, "query", sql, str(trace), "--json", limit=None).said(0).out)
    assert found == {"s": PAIRS * (PAIRS - 1) // 2, "c": PAIRS}


@pytest.mark.parametrize("form", ["ndjson", "csv", "perfetto", "parquet", "ctf"])
def test_it_is_exported(qtctl: Qtctl, trace: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    if form == "parquet":
        pytest.importorskip("pyarrow")
    words = ["--events-all", str(tmp_path / "declared"), "export", "--to", form]
    (tmp_path / "declared").write_text(DECLARED)
    total = sum(WANTED.values())
    qtctl(*words, str(trace), "-o", str(out), limit=None).said(0, f"{total} shown", "0 lost")
    match form:
        case "ndjson":
            *events, _ = objects(out.read_text())
            found = Counter(one["name"] for one in events)
        case "csv":
            text = out.read_text(errors="surrogateescape")
            found = Counter(row["name"] for row in csv.DictReader(io.StringIO(text)))
        case "parquet":
            import pyarrow.parquet as pq

            found = Counter()
            for path in out.rglob("*.parquet"):
                [name] = [p.partition("=")[2] for p in path.parts if p.startswith("event=")]
                found[name] += pq.read_metadata(path).num_rows
        case "ctf":
            ran = subprocess.run(["babeltrace2", out], capture_output=True, check=True, timeout=60)
            found = Counter({name: ran.stdout.count(f" {name}: {{".encode()) for name in WANTED})
        case _:
            protos = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
            opened = protos.Trace.FromString(out.read_bytes())
            kinds = Counter(one.track_event.type for one in opened.packet)
            begun = protos.TrackEvent.Type.Value("TYPE_SLICE_BEGIN")
            assert kinds[begun] == PAIRS
            return
    assert found == WANTED


def test_lost_and_read_add_up_to_produced(qtctl: Qtctl, provider: Provider, tmp_path: Path) -> None:
    produced = 300_000
    small = ("--subbuf-size=16k", "--num-subbuf=2")
    pid = provider.process.pid
    processors = os.sched_getaffinity(pid)
    # Each processor has a buffer of its own: a loss stands where that buffer goes on.
    os.sched_setaffinity(pid, {min(processors)})
    with recording(tmp_path / "trace", pid, "own_count", channel=small):
        provider.tell(f"count {produced}")
    os.sched_setaffinity(pid, processors)
    ran = qtctl("replay", str(tmp_path / "trace"), "--ndjson", limit=None).said(0)
    *items, summary = objects(ran.out)
    assert summary["filtered"] == 0
    assert 0 < summary["lost"] == produced - summary["read"]
    assert summary["lost"] == sum(one["count"] for one in items if one["type"] == "loss")
    seen = [one["args"]["n"] for one in items if one["type"] == "event"]
    assert seen == sorted(set(seen))
    # Each gap is where its loss is, and as large.
    expected = 0
    for one in items:
        if one["type"] == "loss":
            expected += one["count"]
        else:
            assert one["args"]["n"] == expected
            expected += 1
    assert expected == produced


@pytest.mark.parametrize(
    ("contexts", "known"), [((), False), (("procname", "vtid"), True), (("vpid",), False)]
)
def test_whatever_contexts_it_has(
    qtctl: Qtctl, provider: Provider, tmp_path: Path, contexts: tuple[str, ...], known: bool
) -> None:
    trace = tmp_path / "trace"
    with recording(trace, provider.process.pid, "own_*", contexts=contexts):
        provider.tell("count 3")
        provider.tell("texts")
    ran = qtctl("replay", str(trace), "--ndjson", limit=None).said(0, "0 lost")
    *events, _ = objects(ran.out)
    assert len(events) == 6
    assert not any("raw" in one for one in events)
    assert {one["tid"] for one in events} == {provider.process.pid if known else None}


def test_one_that_is_still_written(qtctl: Qtctl, provider: Provider, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with recording(trace, provider.process.pid, "own_count"):
        provider.tell("count 100")
        ran = qtctl("replay", str(trace), "--ndjson", limit=None)
        assert ran.code in (0, 1)
        assert "Traceback" not in ran.err
    ran = qtctl("replay", str(trace), "--ndjson", limit=None).said(0, "100 shown")


def test_what_is_broken_is_told(qtctl: Qtctl, trace: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(trace, broken)
    for path in broken.rglob("one_*"):
        if path.is_file() and path.stat().st_size:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2 + 1])
    ran = qtctl("replay", str(broken), "--ndjson", limit=None).said(1, "cannot read all of")
    *_, summary = objects(ran.out)
    assert summary["type"] == "summary"
    assert "64-bit/one_" in ran.err
    for ask in (
        ["query", "SELECT count(*) n FROM events", str(broken)],
        ["count", "--from", str(broken)],
        ["export", "--to", "ndjson", str(broken), "-o", str(tmp_path / "out")],
    ):
        qtctl(*ask, limit=None).said(1, "cannot read all of")
    assert (tmp_path / "out").exists()
    for path in broken.rglob("metadata"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    qtctl("replay", str(broken), limit=None).said(1)
