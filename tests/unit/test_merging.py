"""Several FILEs at once: merged by time, told apart, never paired across."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.commands.formatting import loss_words
from qtctl.events.selection import Selection
from qtctl.records import schema
from qtctl.records.batch import Batch
from qtctl.records.items import Loss
from qtctl.session.merging import Reading, open_reading
from tests.running import Qtctl
from tests.samples import declarations_text

V, R = 0x55AA10002000, 0x55AA10030000
READ = f"virtio_blk_handle_read vdev {V:#x} req {R:#x} sector 2048 nsectors 8"
DONE = f"virtio_blk_req_complete vdev {V:#x} req {R:#x} status 0"


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("declared") / "trace-events-all"
    path.write_text(declarations_text("7.2"))
    return path


def line(us: int, text: str) -> str:
    return f"7@1700000000.{us:06}:{text}\n"


def write(folder: Path, **texts: str) -> list[str]:
    """Write files, and return their names."""
    for name, text in texts.items():
        (folder / f"{name}.log").write_text(text)
    return [str(folder / f"{name}.log") for name in texts]


def objects(qtctl: Qtctl, *words: str, code: int = 0) -> list[dict[str, object]]:
    ran = qtctl(*words)
    assert ran.code == code, ran
    return [json.loads(text) for text in ran.out.splitlines()]


def test_records_are_merged_by_time(qtctl: Qtctl, tmp_path: Path, declared: Path) -> None:
    one, two = write(
        tmp_path,
        one=line(1, READ) + "a word\n" + line(30, DONE),
        two=line(2, READ) + line(20, DONE) + line(40, DONE),
    )
    words = ("replay", one, two, "virtio_*", "--ndjson", f"--events-all={declared}")
    *events, summary = objects(qtctl, *words)
    assert [(e["time_ns"] % 1000_000 // 1000, e["file"]) for e in events] == [  # type: ignore[operator]
        (1, "one.log"), (2, "two.log"), (20, "two.log"), (30, "one.log"), (40, "two.log"),
    ]  # fmt: skip
    assert [summary[name] for name in ("read", "shown", "filtered")] == [6, 5, 1]
    *events, summary = objects(qtctl, *words, "--max-events", "3")
    assert [e["file"] for e in events] == ["one.log", "two.log", "two.log"]
    assert summary["shown"] == 3
    filtered = objects(qtctl, *words, "--where", "file == 'two.log'")
    assert len(filtered) == 4
    text = qtctl("replay", one, two, "--all", f"--events-all={declared}", "--time", "none")
    assert [row.split()[:2] for row in text.out.splitlines()][:3] == [
        ["[in", "one.log]"], ["a", "word"], ["[in", "two.log]"],
    ]  # fmt: skip


def test_nothing_is_paired_across_files(qtctl: Qtctl, tmp_path: Path, declared: Path) -> None:
    one, two = write(
        tmp_path, one=line(1, READ) + line(301, DONE), two=line(100, READ) + line(110, DONE)
    )
    words = ("--from", one, "--from", two, "--json", f"--events-all={declared}")
    pair = ("virtio_blk_handle_read", "virtio_blk_req_complete")
    [found] = objects(qtctl, "latency", *pair, *words, "--by", "file")
    assert (found["count"], found["max"], found["unpaired"]) == (2, 300_000, 0)
    groups = cast(list[dict[str, object]], found["groups"])
    assert [(one["value"], one["max"]) for one in groups] == [
        ("one.log", 300_000),
        ("two.log", 10_000),
    ]
    [counted] = objects(qtctl, "count", *words, "--by", "file")
    assert counted["groups"] == [{"value": name, "count": 2} for name in ("one.log", "two.log")]
    sql = "SELECT file, count(*) n FROM events GROUP BY 1 ORDER BY 1"
    asked = qtctl("query", sql, one, two, "--json", f"--events-all={declared}")
    assert json.loads(asked.out) == [{"file": one, "n": 2}, {"file": two, "n": 2}]


def test_exports_have_the_file(qtctl: Qtctl, tmp_path: Path, declared: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    one, two = write(tmp_path, one=line(1, READ), two=line(2, READ))
    out, all_ = tmp_path / "out", f"--events-all={declared}"
    csv = qtctl("export", "--to", "csv", one, two, "virtio_blk_handle_read", all_).out
    header, *rows = [row.split(",") for row in csv.splitlines()]
    assert [row[header.index("file")] for row in rows] == ["one.log", "two.log"]
    assert qtctl("export", "--to", "parquet", one, two, "-o", str(out), all_, limit=None).code == 0
    assert sorted(pq.read_table(out).column("file").to_pylist()) == ["one.log", "two.log"]


def test_which_words_are_files(qtctl: Qtctl, tmp_path: Path, declared: Path) -> None:
    one, two = write(tmp_path, one=line(1, READ), two=line(2, DONE))
    all_ = f"--events-all={declared}"
    (tmp_path / "virtio_blk_handle_read").write_text(line(3, READ))
    here = partial(qtctl, cwd=tmp_path)
    assert qtctl("replay", one, two, all_).out.count("\n") == 2
    assert here("replay", one, "virtio_blk_handle_read", all_).out.count("\n") == 2
    assert here("replay", one, "virtio_blk_handle_rea*", all_).out.count("\n") == 1
    here("replay", one, "thre.log", all_).said(2, "cannot read thre.log")
    qtctl("replay", one, "virtio_blk_handle_rad", all_).said(3, "virtio_blk_handle_rad")


def test_files_of_other_kinds_and_clocks(tmp_path: Path, declared: Path) -> None:
    """Records by time since boot come behind those by Unix time; a loss keeps its place."""
    head = " qemu-system-x86-4711  [001]   812.100010: print:                tracing_mark_write: "
    (tmp_path / "one.txt").write_text(f"{head}{READ}\nCPU:1 [5 EVENTS DROPPED]\n{head}{DONE}\n")
    (tmp_path / "two.log").write_text(line(1, READ))
    paths = [tmp_path / "one.txt", tmp_path / "two.log"]
    items = read_all(paths, declared)
    assert [type(item) for item in items] == [Batch, Batch, Loss, Batch]
    files = [item.origins[0].file for item in items if isinstance(item, Batch)]
    assert files == ["two.log", "one.txt", "one.txt"]
    [loss] = [item for item in items if isinstance(item, Loss)]
    assert (loss.file, schema.to_object(loss)["file"]) == ("one.txt", "one.txt")
    assert schema.from_object(schema.to_object(loss)) == loss
    assert loss_words(loss) == "5 records lost here (ftrace) in one.txt"


def test_files_of_one_name_have_their_paths(tmp_path: Path, declared: Path) -> None:
    paths = [tmp_path / name for name in ("a/x.log", "b/x.log", "y.log")]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_text(line(number, READ))
    items = read_all(paths, declared)
    files = [one.file for item in items if isinstance(item, Batch) for one in item.origins]
    assert list(dict.fromkeys(files)) == [str(paths[0]), str(paths[1]), "y.log"]


BOOT = f" qemu-system-x86-4711  [001]   812.100010: print:    tracing_mark_write: {READ}\n"


@pytest.mark.parametrize(
    ("texts", "remark"),
    [
        ((line(1, READ), line(2, READ)), ""),
        ((line(1, READ), f"{READ}\n{line(2, READ)}"), ""),
        (
            (line(1, READ), BOOT),
            "Unix time in 0; time since boot in 1: these records are not in one order of time",
        ),
        ((line(1, READ), f"{READ}\n"), "Unix time in 0; no times in 1: these records are not in"),
        ((BOOT, BOOT), "time since boot in 0, 1: in one order only if the boot is one"),
        ((f"{READ}\n", f"{READ}\n"), ""),
    ],
)
def test_files_of_other_clocks_are_told(
    tmp_path: Path, declared: Path, texts: tuple[str, ...], remark: str
) -> None:
    paths = [tmp_path / str(number) for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    for ordered in (True, False):
        reading = open_all(paths, declared, ordered=ordered)
        while reading.step() is not None:
            pass
        assert reading.remark.startswith(remark if ordered else "")
        assert bool(reading.remark) == bool(remark and ordered)
        reading.close()


def open_all(paths: list[Path], declared: Path, *, ordered: bool = True, **more: Any) -> Reading:
    return open_reading(
        paths, ordered=ordered, limit=None, events_all=declared, selection=Selection(()), **more
    )


def read_all(paths: list[Path], declared: Path, **more: Any) -> list[object]:
    reading = open_all(paths, declared, **more)
    items: list[object] = []
    while (found := reading.step()) is not None:
        items += found
    reading.close()
    assert reading.counts.read == reading.counts.shown + reading.counts.filtered
    return items


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), max_size=30), min_size=2, max_size=3))
def test_any_files_are_merged(
    tmp_path_factory: pytest.TempPathFactory, declared: Path, times: list[list[int]]
) -> None:
    """Each file keeps its order; whoever is not behind its own file's times is in order."""
    folder = tmp_path_factory.mktemp("files")
    paths = []
    for number, own in enumerate(times):
        paths.append(folder / f"{number}.log")
        paths[-1].write_text(
            line(0, READ) + "".join(line(us, f"{DONE[:-1]}{n}") for n, us in enumerate(own))
        )
    found: dict[str, list[int]] = {}
    highest = []
    for item in read_all(paths, declared):
        assert isinstance(item, Batch)
        for record in item.records():
            file = record.origin.file or ""
            found.setdefault(file, []).append(record.time_ns % 10**9 // 1000)
            highest.append(max(found[file]))
    assert {path.name: [0, *own] for path, own in zip(paths, times, strict=True)} == found
    assert highest == sorted(highest)
