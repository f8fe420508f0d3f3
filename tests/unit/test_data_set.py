"""Data sets: whole files only, one schema, several writers, and what others read in them."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow.parquet as pq
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import QtctlError, UsageError
from qtctl.model import Backend, Clock, Mark
from qtctl.recordings.data_sets import MARKER
from qtctl.records.batch import Batch
from qtctl.records.items import Loss
from qtctl.records.origins import Origin
from qtctl.writers import dataset
from qtctl.writers.dataset import COLUMNS, DataSetPlace, DataSetWriter
from tests.fleet import READ, fleet, names
from tests.running import Qtctl
from tests.samples import event_table, only_batch


def writer(folder: Path) -> DataSetWriter:
    return DataSetWriter(DataSetPlace.parse(str(folder)), "vm1")


def batch(count: int, second: int = 1_700_000_000, first: int = 0) -> Batch:
    lines = "".join(
        f"7@{second}.{n % 1_000_000:06}:{READ} vdev 0x1 req {n * 7919:#x} sector {n} nsectors 8\n"
        for n in range(first, first + count)
    )
    return only_batch(LogDecoder(event_table("7.2")).end(lines.encode(), Clocks(0)))


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return found


def test_a_file_is_there_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_GROUP_BYTES", 1000)
    made = writer(tmp_path / "set")
    made.write(batch(100))
    assert names(tmp_path) == []
    [begun] = [path for path in tmp_path.rglob("*") if path.name.startswith(".part")]
    made.tick()
    assert names(tmp_path) == []
    monkeypatch.setattr(dataset, "PART_S", 0.0)
    made.tick()
    [path] = names(tmp_path)
    assert not begun.exists()
    assert made.account() == {
        "parquet": str(tmp_path / "set"),
        "files": 1,
        "rows": 100,
        "bytes": path.stat().st_size,
    }
    monkeypatch.setattr(dataset, "PART_BYTES", 1)
    made.write(batch(100, first=100))
    assert len(names(tmp_path)) == 2
    made.end()
    found = [json.loads(row["args"])["sector"] for row in rows(tmp_path / "set")]
    assert sorted(found) == list(range(200))


def test_memory_and_open_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_HELD_BYTES", 5000)
    monkeypatch.setattr(dataset, "_OPEN_FILES", 3)
    made = writer(tmp_path / "set")
    for turn in range(3):
        for guest in range(10):
            part = batch(20, first=20 * turn)
            made.write(replace(part, origins=[Origin(guest=f"vm{guest}")] * len(part.origins)))
            assert made._waiting <= 5000
            opened = [one for one in made._parts.values() if one.writer is not None]
            assert len(opened) <= 3
    made.end()
    sums = Counter(row["guest"] for row in rows(tmp_path / "set"))
    assert sums == {f"vm{guest}": 60 for guest in range(10)}


def test_folders_columns_and_notes(tmp_path: Path) -> None:
    made = writer(tmp_path / "set")
    later = batch(1, 1_700_003_600)
    origins = [Origin(9, "a/b", "h=1", 2, "CPU 0", None)] * len(later.origins)
    made.write(replace(later, origins=origins))
    made.write(replace(batch(1, 40_000), clock=Clock.MONOTONIC))
    made.write(Loss(Backend.LOG, None, 1_700_000_000_000_000_000))
    made.write(Mark("x", 1_700_000_000_000_000_000))
    made.end()
    folders = {str(path.parent.relative_to(tmp_path / "set")) for path in names(tmp_path)}
    host = os.uname().nodename
    assert folders == {
        f"host=h%3D1/guest=a%2Fb/event={READ}/hour=2023-11-14T23",
        f"host={host}/guest=vm1/event={READ}/hour=boot+0011h",
        f"host={host}/guest=vm1/event=notes/hour=2023-11-14T22",
    }
    for path in names(tmp_path):
        assert pq.read_schema(path).equals(COLUMNS)
    [row] = [one for one in rows(tmp_path / "set") if one["run"] is not None]
    assert (row["pid"], row["run"], row["thread"], row["tid"]) == (9, 2, "CPU 0", 7)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.parquet").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"holds 'mine.parquet' and is no data set"):
        writer(other)
    assert [path.name for path in other.iterdir()] == ["mine.parquet"]
    (other / MARKER).write_text('{"format": "qtctl data set", "version": 2}')
    with pytest.raises(UsageError, match="no data set that this qtctl knows"):
        writer(other)
    (other / MARKER).write_text("[")
    with pytest.raises(QtctlError, match="cannot read"):
        writer(other)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(QtctlError, match="cannot write to"):
        writer(tmp_path / "file")
    for wrong in ("", "http://x/y", "s3://"):
        with pytest.raises(UsageError):
            DataSetPlace.parse(wrong)


def test_a_fleet_is_read_as_it_was_written(tmp_path: Path) -> None:
    sums = fleet(str(tmp_path / "set"))
    glob = str(tmp_path / "set/**/*.parquet")
    records = f"FROM read_parquet('{glob}', hive_partitioning=true) WHERE event <> 'notes'"
    sql = f"SELECT host, guest, event, count(*) {records} GROUP BY ALL"
    with duckdb.connect() as link:
        assert {row[:3]: row[3] for row in link.execute(sql).fetchall()} == sums
    frame = polars.scan_parquet(glob, hive_partitioning=True).filter(polars.col("event") != "notes")
    found = frame.group_by("host", "guest", "event").len().collect().rows()
    assert {row[:3]: row[3] for row in found} == sums


def test_query_and_count_read_it(tmp_path: Path) -> None:
    sums, place = fleet(str(tmp_path / "set")), str(tmp_path / "set")
    with Qtctl(tmp_path / "home") as run:
        sql = "SELECT host, guest, event, count(*) FROM events GROUP BY ALL"
        ran = run("query", sql, place, "--to", "csv", limit=None).said(0, "7 records are missing")
        lines = [line.split(",") for line in ran.out.splitlines()[1:]]
        assert {(a, b, c): int(d) for a, b, c, d in lines} == sums
        sql = f"SELECT sum((args->>'nsectors')::INT) FROM {READ} WHERE guest = 'vm5'"
        assert run("query", sql, place, limit=None).said(0).out == "9\n"
        run("query", "SHOW TABLES", place, limit=None).said(0, "5 rows")
        run("query", "FROM events", place, "--strict", limit=None).said(6)
        for by, place_of in (("event", 2), ("guest", 1), ("host", 0)):
            wanted: Counter[str] = Counter()
            for key, count in sums.items():
                wanted[key[place_of]] += count
            ran = run("count", "--from", place, "--by", by, "--json", limit=None)
            found = json.loads(ran.said(0, "7 records are missing").out)
            assert {one["value"]: one["count"] for one in found["groups"]} == wanted
            assert (found["count"], found["lost"]) == (sums.total(), 7)
        words = ("count", "virtio_blk_handle_*", "--from", place, "--json", "--by")
        found = json.loads(run(*words, "nsectors", limit=None).said(0).out)
        nsectors: Counter[int] = Counter()
        for (_, guest, event), count in sums.items():
            nsectors[1 + int(guest[2:]) % 3] += count if event == READ else 0
        assert {one["value"]: one["count"] for one in found["groups"]} == nsectors
        run("count", "no_*", "--from", place, limit=None).said(3, "no event matches")
        run(*words, "a b", limit=None).said(2, "no name of an argument")
        run("count", "--from", place, "--hist", "sector", limit=None).said(2, "qtctl query")
