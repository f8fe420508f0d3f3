"""``qtctl query``: SQL over files, told in our words where it is wrong, and kept to those files."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.commands.query import _AnswerFormatter
from qtctl.errors import UsageError
from qtctl.events.selection import Selection
from qtctl.model import Argument, Declaration, Kind, Mark
from qtctl.query.engine import _SETTINGS, Query
from qtctl.records.event_table import EventTable
from qtctl.session.replay import Replay
from qtctl.text.style import Style
from tests.recordings import write
from tests.running import Qtctl, eventually
from tests.samples import CASES, capture, declarations_text, only_batch
from tests.simplefiles import dropped, event, header, mapping

DECLARED = """\
few(uint64_t a, const char *s, int16_t n) "%lu %s %d"
none(void) ""
"""
BEGIN = header() + mapping(0, "few") + mapping(1, "none")
MOST = 2**64 - 1
ODD = b'q"\n\x1b\xff'
RECORDS = event(0, 1, MOST, b"x", -3) + event(1, 2) + event(0, 3, 5, ODD, 4)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def known(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "trace-events-all"
    path.write_text(DECLARED)
    return ("--events-all", str(path))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    return saved(tmp_path / "trace", BEGIN + RECORDS)


def saved(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def answer(sql: str, *paths: str, known: str | None) -> list[dict[str, Any]]:
    """Ask in this process, which is quicker."""
    query = Query(sql, list(map(Path, paths)), events_all=Path(known) if known else None)
    with contextlib.closing(query):
        return [row for batch in query.run()[1] for row in batch.to_pylist()]


def test_every_form_of_answer(
    run: Qtctl, tmp_path: Path, trace: str, known: tuple[str, str]
) -> None:
    sql = "SELECT time_ns, a, s, n, a + a AS twice, NULL AS nothing FROM few ORDER BY time_ns"
    sql = sql.replace("a + a", "a::HUGEINT + a")
    ask = ("query", sql, trace, *known, "-q")
    rows = [
        {"time_ns": 1, "a": MOST, "s": "x", "n": -3, "twice": 2 * MOST, "nothing": None},
        {"time_ns": 3, "a": 5, "s": 'q"\n\x1b\\xff', "n": 4, "twice": 10, "nothing": None},
    ]
    assert run(*ask).said(0).out == (
        f'1\t{MOST}\tx\t-3\t{2 * MOST}\t\n3\t5\tq"\\n\\x1b\\xff\t4\t10\t\n'
    )
    assert json.loads(run(*ask, "--json").said(0).out) == rows
    lines = run(*ask, "--format", "ndjson").said(0).out.splitlines()
    assert list(map(json.loads, lines)) == rows
    found = list(csv.reader(io.StringIO(run(*ask, "--format", "csv").said(0).out, newline="")))
    assert found[0] == list(rows[0])
    assert found[1:] == [["" if v is None else str(v) for v in row.values()] for row in rows]
    out = tmp_path / "out.parquet"
    run(*ask, "--format", "parquet", "-o", str(out)).said(0)
    assert pq.read_table(out).to_pylist() == rows
    assert out.stat().st_mode & 0o777 == 0o600
    run(*ask, "--format", "parquet", "-o", str(out)).said(2, "exists")
    run(*ask, "--format", "parquet").said(2, "-o FILE")
    run(*ask, "--json", "--format", "csv").said(2, "one document")


def test_tables_show_in_hex_what_qemu_does(run: Qtctl, tmp_path: Path) -> None:
    known = tmp_path / "trace-events-all"
    known.write_text('ask(void *dev, unsigned int size, int reg) "%p %u 0x%x"\n')
    trace = saved(tmp_path / "hex", header() + mapping(0, "ask") + event(0, 1, 0xBEEF, 16, 255))
    ask = ("query", "SELECT *, dev + 1 AS next FROM ask", trace, "--events-all", str(known), "-q")
    cells = run(*ask).said(0).out.rstrip("\n").split("\t")
    assert cells[-5:] == ["0xbeef", "16", "0xff", "", "48880"]
    (row,) = csv.DictReader(io.StringIO(run(*ask, "--format", "csv").said(0).out))
    assert (row["dev"], row["size"], row["reg"]) == ("48879", "16", "255")


def test_tables_of_all_events_lines_and_notes(
    run: Qtctl, tmp_path: Path, known: tuple[str, str]
) -> None:
    log = saved(tmp_path / "log", b"7@1.000002:few 5 five -5\nIN: a line\nnone\nfew odd\n")
    data = BEGIN + RECORDS + dropped(9, 4) + event(1, 5)
    binary = saved(tmp_path / "trace", data)

    def rows(sql: str) -> list[list[object]]:
        return [list(row.values()) for row in answer(sql, log, binary, known=known[1])]

    assert rows("SELECT event, count(*) FROM events GROUP BY 1 ORDER BY 1") == [
        ["few", 4],
        ["none", 3],
    ]
    assert rows("FROM few SELECT a, s, n, tid, backend, raw, file ORDER BY file, time_ns") == [
        [5, "five", -5, 7, "log", None, log],
        [None, None, None, None, "log", "odd", log],
        [MOST, "x", -3, None, "simple", None, binary],
        [5, 'q"\n\x1b\\xff', 4, None, "simple", None, binary],
    ]
    assert rows("SELECT args->>'a' FROM events WHERE event = 'few' AND raw IS NULL") == [
        ["5"],
        [str(MOST)],
        ["5"],
    ]
    assert rows("SELECT line, count FROM lines FULL JOIN notes ON false ORDER BY 1") == [
        ["IN: a line", None],
        [None, 9],
    ]
    assert (
        rows("SELECT max(b.time_ns - a.time_ns) FROM few a JOIN few b USING (file)") == [[3]] or 1
    )


@pytest.mark.parametrize("version", ["7.2", "10.2"])
def test_captures_agree_with_replay(run: Qtctl, tmp_path: Path, version: str) -> None:
    trace = saved(tmp_path / "trace", capture(f"qemu-{version}-simple-v4.bin"))
    (tmp_path / "all").write_text(declarations_text(version))
    known = ("--events-all", str(tmp_path / "all"))
    replayed = run("replay", trace, *known, "--ndjson", limit=None).said(0).out.splitlines()
    records = [one for one in map(json.loads, replayed) if one["type"] == "event"]
    sql = "SELECT event, time_ns, pid, args FROM events"
    asked = run("query", sql, trace, *known, "--format", "ndjson", limit=None).said(0).out
    found = [json.loads(line) for line in asked.splitlines()]
    assert [{**row, "args": json.loads(row["args"])} for row in found] == [
        {key: one[key] for key in ("time_ns", "pid", "args")} | {"event": one["name"]}
        for one in records
    ]
    name = "memory_region_ops_read"
    sql = f"SELECT addr, count(*) n FROM {name} WHERE size = 1 AND name <> '' GROUP BY addr"
    asked = run("query", sql, trace, *known, "--json", limit=None).said(0).out
    counted: dict[int, int] = {}
    for one in records:
        if one["name"] == name and one["args"]["size"] == 1:
            counted[one["args"]["addr"]] = counted.get(one["args"]["addr"], 0) + 1
    assert {row["addr"]: row["n"] for row in json.loads(asked)} == counted


def test_tables_are_listed_and_described(trace: str, known: tuple[str, str]) -> None:
    def column(sql: str, name: str) -> list[Any]:
        return [row[name] for row in answer(sql, trace, trace, known=known[1])]

    tables = ["events", "few", "lines", "none", "notes"]
    assert sorted(column("SHOW TABLES", "name")) == tables
    assert sorted(column("DESCRIBE", "name")) == tables
    assert (
        sorted(column("SELECT table_name FROM information_schema.tables", "table_name")) == tables
    )
    sql = "SELECT data_type FROM information_schema.columns WHERE column_name = $name"
    query = Query(sql, [Path(trace)], events_all=Path(known[1]), parameters={"name": "a"})
    with contextlib.closing(query):
        assert [row for batch in query.run()[1] for row in batch.to_pylist()] == [
            {"data_type": "UBIGINT"}
        ]
    columns = column("DESCRIBE few", "column_name")
    assert columns[:2] == ["time_ns", "time"]
    assert columns[-4:] == ["a", "s", "n", "raw"]
    assert column("SUMMARIZE few", "column_name") == columns
    assert len(column("FROM few", "a")) == 4


def test_tables_with_other_columns_are_joined_by_name(
    tmp_path: Path, trace: str, known: tuple[str, str]
) -> None:
    write(tmp_path / "other", [Mark("m", 1)], {})
    found = answer("SELECT count(*) n FROM events", trace, str(tmp_path / "other"), known=known[1])
    assert found == [{"n": 3}]


def test_events_whose_names_are_no_names_of_tables(run: Qtctl, tmp_path: Path) -> None:
    """No two tables have one name, and none is counted twice."""
    strange = ['a"b/..\n\udcff', "Few", "few", "select", "events", "ab\0c", "x" * 300]
    number = Argument("a", "int", Kind.INTEGER, 32, True)
    declared = {name: Declaration(name, (number,), "%" + "d") for name in strange}
    table = EventTable.build(strange, declared)
    rows = LogDecoder(EventTable.build(["some"], {})).end(b"some 5\n", Clocks(5))
    batches = [
        replace(only_batch(rows), table=table, event=np.full(1, code, np.int32))
        for code in range(len(strange))
    ]
    write(tmp_path / "rec", batches, declared)
    path = str(tmp_path / "rec")
    tables = [row["name"] for row in answer("SHOW TABLES", path, known=None)]
    assert len(tables) == len(strange) + 3
    assert {"Few", "few_", "events", "events_", "select"} <= set(tables)
    assert len(answer("FROM events", path, known=None)) == len(strange)
    found = set()
    for name in set(tables) - {"events", "lines", "notes"}:
        quoted = '"' + name.replace('"', '""') + '"'
        [row] = answer(f"SELECT event, a FROM {quoted}", path, known=None)
        assert row["a"] == 5, (name, row)
        found.add(row["event"])
    assert len(found) == len(strange)
    ran = run("query", "SHOW TABLES", path).said(0)
    assert len(ran.out.splitlines()) == len(tables)


def test_pivot_and_explain(run: Qtctl, trace: str, known: tuple[str, str]) -> None:
    for sql in (
        "PIVOT events ON event USING count(*) GROUP BY pid",
        "FROM (PIVOT events ON event USING count(*) GROUP BY pid)",
        "PIVOT events ON event IN ('few', 'none') USING count(*) GROUP BY pid",
    ):
        [row] = answer(sql, trace, known=known[1])
        assert (row["few"], row["none"]) == (2, 1)
    ran = run("query", "EXPLAIN SELECT a FROM few WHERE n > 3", trace, *known).said(0)
    assert "\\n" not in ran.out
    assert "Filters" in ran.out
    assert len(ran.out.splitlines()) > 4
    rows = json.loads(run("query", "EXPLAIN FROM few", trace, *known, "--json").said(0).out)
    assert all(list(row) == ["plan"] for row in rows)


def test_parameters(run: Qtctl, trace: str, known: tuple[str, str]) -> None:
    def asked(sql: str, *words: str) -> Any:
        words = tuple(part for word in words for part in ("--param", word))
        return json.loads(run("query", sql, trace, *known, *words, "--json").said(0).out)

    assert asked("SELECT n FROM few WHERE a = $a", f"a={MOST:#x}") == [{"n": -3}]
    assert asked("SELECT n FROM few WHERE a = $a AND n = $n", "a=5", "n=4") == [{"n": 4}]
    assert asked("SELECT n FROM few WHERE s = $s", "s=x") == [{"n": -3}]
    assert asked("SELECT n FROM few WHERE s = $s", "s=x' OR 'a' = 'a") == []
    assert asked("SELECT $1 AS x", "1=a=b") == [{"x": "a=b"}]
    words = ("query", "SELECT n FROM few WHERE a = $a", trace, *known)
    run(*words).said(2, "no value is given for $a", "--param a=VALUE")
    run(*words, "--param", "a=1", "--param", "b=1").said(2, "the query has no $b")
    run(*words, "--param", "a").said(2, "not a parameter")
    ran = run(*words[:1], "SELECT x FROM few WHERE a = $a", *words[2:], "--param", "a=1")
    ran.said(2, "there is no column x (line 1, column 8)")


def test_times_are_also_timestamps(run: Qtctl, tmp_path: Path, known: tuple[str, str]) -> None:
    text = saved(
        tmp_path / "log", b"7@1700000000.123456:few 1 x 1\n7@1700000061.000001:few 2 y 2\n"
    )

    def asked(sql: str, *paths: str) -> Any:
        return json.loads(run("query", sql, *paths, *known, "--json").said(0).out)

    times = ["2023-11-14T22:13:20.123456000", "2023-11-14T22:14:21.000001000"]
    assert asked("SELECT time FROM few", text) == [{"time": time} for time in times]
    [row] = asked("SELECT list(time ORDER BY time) t FROM events", text)
    assert row["t"] == [time.replace("T", " ") for time in times]
    sql = "SELECT count(*) n FROM few WHERE time >= TIMESTAMP '2023-11-14 22:14:00'"
    assert asked(sql, text) == [{"n": 1}]
    sql = "SELECT date_trunc('minute', time) m, count(*) n FROM events GROUP BY 1 ORDER BY 1"
    assert [row["m"] for row in asked(sql, text)] == ["2023-11-14T22:13:00", "2023-11-14T22:14:00"]
    since_boot = saved(tmp_path / "trace", BEGIN + RECORDS)
    assert asked("SELECT DISTINCT time FROM events", since_boot) == [{"time": None}]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELEC 1", ["(line 1, column 1)", "  SELEC 1\n  ^"]),
        ("SELECT time_ms FROM few", ["no column time_ms (line 1, column 8)", "time_ns"]),
        ("SELECT 1,\n x\nFROM few", ["no column x (line 2, column 2)"]),
        (
            "SELECT\t'\u00e9\u00e9', x\n",
            ["(line 1, column 14)\n  SELECT '\u00e9\u00e9', x\n" + 15 * " " + "^"],
        ),
        ("SELECT * FROM fwe", ["no table fwe", "(line 1, column 15)", "few"]),
        ("SELECT * FROM event", ["no table event", "events"]),
        ("SELECT cunt(*) FROM few", ["(line 1, column 8)", "count"]),
        ("SELECT CAST(s AS INTEGER) FROM few", ["'x'", "INT32"]),
        ("SELECT a + a FROM few", ["verflow"]),
        (f"SELECT {'a + ' * 40}x + {'a + ' * 40}1 FROM few", ["no column x (line 1, column 168)"]),
        (
            f"SELECT {'a + ' * 40}x FROM few",
            ["  ..." + "+ a " * 9 + "+ x FROM few\n" + 43 * " " + "^"],
        ),
        ("SELECT * FROM read_csv('x')", ["nothing else (line 1, column 15)"]),
        ("SELECT error('{')", ["{"]),
        ("""SELECT error('{"exception_type": 1, "position": "x"}')""", ["exception_type"]),
        ("SELECT * FROM few WHERE", ["syntax error"]),
        ("", ["is empty"]),
        ("-- nothing", ["is empty"]),
        ("SELECT 1; SELECT 2", ["several statements"]),
        ("CREATE TABLE t AS SELECT 1", ["no statement that reads"]),
        ("SET memory_limit = '1TB'", ["no statement that reads"]),
        ("INSTALL httpfs", ["no statement that reads"]),
        ("\x01", ["syntax error"]),
    ],
)
def test_mistakes_are_named(trace: str, known: tuple[str, str], sql: str, says: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        answer(sql, trace, known=known[1])
    for part in says:
        assert part in str(caught.value)


def test_a_mistake_is_shown_with_its_place(run: Qtctl, trace: str, known: tuple[str, str]) -> None:
    ran = run("query", "SELECT x FROM few", trace, *known)
    ran.said(2, "qtctl: there is no column x (line 1, column 8)\n  SELECT x FROM few\n         ^\n")
    assert ran.out == ""


def test_a_query_reaches_nothing_but_its_files(
    tmp_path: Path, trace: str, known: tuple[str, str]
) -> None:
    secret = saved(tmp_path / "secret.csv", b"a,b\n1,2\n")
    target = tmp_path / "written"
    for sql in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        f"COPY (SELECT 1) TO '{target}'",
        f"ATTACH '{target}'",
        f"EXPORT DATABASE '{target}'",
        "SELECT * FROM sources",
        "SELECT * FROM settings",
        "SELECT * FROM self",
    ):
        with pytest.raises(UsageError):
            answer(sql, trace, known=known[1])
    assert not target.exists()


def test_an_answer_that_fails_leaves_no_file(
    run: Qtctl, tmp_path: Path, trace: str, known: tuple[str, str]
) -> None:
    out = tmp_path / "out"
    for form in ("csv", "parquet"):
        sql = "SELECT CAST(s AS INTEGER) FROM few"
        run("query", sql, trace, *known, "--format", form, "-o", str(out)).said(2)
        assert not out.exists()


def test_an_answer_goes_to_streams_and_devices(
    run: Qtctl, tmp_path: Path, trace: str, known: tuple[str, str]
) -> None:
    words = ("query", "FROM few", trace, *known, "--format")
    plain = run(*words, "csv").said(0).out
    assert plain
    assert run(*words, "csv", "-o", "-", cwd=tmp_path).said(0).out == plain
    run(*words, "csv", "-o", "/dev/full").said(1, "No space left on device")
    run(*words, "parquet", "-o", "/dev/null").said(0)
    assert Path("/dev/full").is_char_device()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for place in ("-", "/dev/stdout", str(fifo)):
        ran = run(*words, "parquet", "-o", place, cwd=tmp_path)
        ran.said(2, "Parquet is read from its end", "-o FILE")
    assert not (tmp_path / "-").exists()
    running = run.start(*words, "csv", "-o", str(fifo))
    running.said("waiting for one")
    assert fifo.read_text() == plain
    running.finish().said(0)


def test_files_that_are_cut_are_answered_and_told(
    run: Qtctl, tmp_path: Path, known: tuple[str, str]
) -> None:
    cut = saved(tmp_path / "cut", (BEGIN + RECORDS)[:-2])
    ran = run("query", "SELECT count(*) FROM events", cut, *known).said(1, "is cut off")
    assert ran.out == "2\n"
    ran = run("query", "SELECT count(*) n FROM events", cut, *known, "--json").said(1, "is cut off")
    assert json.loads(ran.out) == [{"n": 2}]
    run("query", "FROM events", saved(tmp_path / "empty", b""), *known).said(1, "is empty")
    run("query", "FROM events", str(tmp_path / "missing"), *known).said(2, "No such file")
    run("query", "FROM events").said(2)
    names = saved(tmp_path / "names", BEGIN)
    assert run("query", "FROM few", names, *known).said(0, "0 rows").out == ""
    assert run("query", "SELECT count(*) FROM few", names, *known).said(0).out == "0\n"


def test_recordings_are_asked_as_other_files(tmp_path: Path, known: tuple[str, str]) -> None:
    path = tmp_path / "trace"
    path.write_bytes(BEGIN + RECORDS + dropped(9, 4))
    with contextlib.closing(Replay(path, events_all=Path(known[1]), selection=Selection())) as read:
        items = [item for items in iter(read.step, None) for item in items]
        write(tmp_path / "rec", [*items, Mark("here", 99)], read.table.declarations)
    for sql in ("FROM few SELECT a, s, n, time_ns", "FROM events SELECT time_ns, event, args"):
        recorded = answer(sql, str(tmp_path / "rec"), known=known[1])
        assert recorded == answer(sql, str(path), known=known[1])
    notes = answer(
        "FROM notes SELECT type, count, note->>'text' t", str(tmp_path / "rec"), known=known[1]
    )
    assert [tuple(row.values()) for row in notes] == [("loss", 9, None), ("mark", None, "here")]


def test_tables_are_not_joined_with_loops_in_loops(trace: str, known: tuple[str, str]) -> None:
    """DuckDB cannot know how long a table is, and takes it for short unless it is told."""
    sql = "FROM few r ASOF JOIN none c ON r.pid = c.pid AND c.time_ns >= r.time_ns SELECT r.a"
    with contextlib.closing(Query(sql, [Path(trace)], events_all=Path(known[1]))) as query:
        assert [batch.to_pylist() for batch in query.run()[1]] == [[{"a": MOST}]]
        [(_, plan)] = query._connection.execute(f"EXPLAIN {sql}").fetchall()
    assert "Asof Join" in plan
    assert "Loop" not in plan


def test_ctrl_c_ends_it_and_leaves_nothing(
    run: Qtctl, tmp_path: Path, known: tuple[str, str]
) -> None:
    trace = saved(tmp_path / "trace", BEGIN + event(0, 1, 5, b"x", 1) * 100_000)
    out = tmp_path / "out"
    sql = "SELECT a.n, b.s FROM few a JOIN few b USING (a)"
    running = run.start("query", sql, trace, *known, "--format", "csv", "-o", str(out))
    eventually(lambda: out.exists() and out.stat().st_size > 1 << 20, "rows are written")
    running.signal(signal.SIGINT)
    running.finish(None).said(130, "was not completed, and is removed")
    assert not out.exists()
    assert not list(run.cache.rglob("qtctl-query-*"))


def test_ctrl_c_ends_it_when_nobody_reads(
    run: Qtctl, tmp_path: Path, known: tuple[str, str]
) -> None:
    trace = saved(tmp_path / "trace", BEGIN + event(0, 1, 5, b"x", 1) * 300_000)
    read, write = os.pipe()
    running = run.start("query", "FROM events", trace, *known, stdout=write)
    os.close(write)
    assert os.read(read, 100)
    running.signal(signal.SIGINT)
    running.finish(None).said(130)
    os.close(read)


def test_what_a_killed_run_left_is_removed(
    tmp_path: Path, trace: str, known: tuple[str, str]
) -> None:
    base = tmp_path / "cache" / "qtctl"
    left, used = base / "qtctl-query-left", base / "qtctl-query-used"
    for folder in (left, used):
        folder.mkdir(parents=True)
        os.utime(folder, (1, 1))
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    answer("FROM none", trace, known=known[1])
    os.close(lock)
    assert list(base.iterdir()) == [used]


def test_what_memory_cannot_hold_is_spilled(
    run: Qtctl, tmp_path: Path, known: tuple[str, str]
) -> None:
    trace = saved(tmp_path / "trace", BEGIN + event(0, 1, 5, b"x" * 400, 1) * 100_000)
    sql = "SELECT count(*) FROM (SELECT s || time_ns || row_number() OVER () k FROM few ORDER BY k)"
    assert run("query", sql, trace, *known, limit=None).said(0).out == "100000\n"


def test_a_reader_that_leaves_ends_it_quietly(
    run: Qtctl, tmp_path: Path, known: tuple[str, str]
) -> None:
    trace = saved(tmp_path / "trace", BEGIN + event(0, 1, 5, b"x", 1) * 100_000)
    read, write = os.pipe()
    running = run.start("query", "FROM events", trace, *known, stdout=write)
    os.close(write)
    assert os.read(read, 100)
    os.close(read)
    assert running.finish(None).code == 0


def test_without_the_extra(run: Qtctl, tmp_path: Path, trace: str) -> None:
    (tmp_path / "duckdb.py").write_text("raise ImportError('not here')\n")
    path = f"{tmp_path}:{run.environment()['PYTHONPATH']}"
    ran = run("query", "FROM events", trace, env={"PYTHONPATH": path})
    ran.said(1, "query needs duckdb", "pip install 'qtctl[analysis]'")


def test_the_settings_hold() -> None:
    """A release of DuckDB that forgets one of them would open the door."""
    with duckdb.connect() as link:
        for setting in _SETTINGS:
            link.execute(setting)
        with pytest.raises(duckdb.Error):
            link.execute("SET enable_external_access = true")


def test_rows_are_printed_as_lines_of_column_and_value() -> None:
    batch = pa.record_batch({"event": ["a", "b"], "addr": [178, None]})
    lines = _AnswerFormatter("expanded", Style(), ("event", "addr"), {"addr"})
    assert [*lines.some(batch, 0)] == [
        *("--- row 1 ---", "event\ta", "addr\t0xb2"),
        *("--- row 2 ---", "event\tb", "addr\t"),
    ]


def test_columns_without_room_are_counted() -> None:
    batch = pa.record_batch({f"column{number}": ["x" * 20] for number in range(9)})
    lines = _AnswerFormatter("table", Style(40), batch.schema.names, ())
    assert next(iter(lines.some(batch, 0))).endswith("+5")
    assert lines.hidden == 5


def test_the_downtime_of_a_migration(tmp_path: Path) -> None:
    """The source's half, in ms: the steps, and what saving each device took (given in us)."""
    known = saved(tmp_path / "all", declarations_text("10.2").encode())
    path = str(CASES / "saved/downtime-src.log")
    steps = """
        SELECT checkpoint, (time_ns - lag(time_ns) OVER (ORDER BY time_ns)) / 1e6 AS ms
        FROM vmstate_downtime_checkpoint"""
    assert [tuple(row.values()) for row in answer(steps, path, known=known)] == [
        ("src-downtime-start", None),
        ("src-vm-stopped", 128.208),
        ("src-iterable-saved", 488.945),
    ]
    devices = "SELECT idstr, downtime / 1e3 AS ms FROM vmstate_downtime_save ORDER BY ms DESC"
    assert [tuple(row.values()) for row in answer(devices, path, known=known)] == [
        ("ram", 138.005),
        ("0000:00:02.0/vfio", 125.188),
    ]
