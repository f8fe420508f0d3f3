"""Which declarations a file is read with, and how well they fit: the note and ``--json``."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from qtctl.backends import declared as finding
from qtctl.backends.declared import declaration_files, read_declarations
from qtctl.errors import UsageError
from qtctl.records.batch import Batch
from tests.recordings import read
from tests.running import Qtctl
from tests.samples import CASES, DATA, declarations_text

OLD = CASES / "saved/s11-old-formats"


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install only the declarations of QEMU 7.2."""
    path = tmp_path / "trace-events-all"
    path.write_text(declarations_text("7.2"))
    monkeypatch.setattr(finding, "installed_declarations", lambda: [path])
    return path


def records(path: Path, events_all: Path | None) -> tuple[list[tuple[str, object]], str]:
    items, replay = read(path, events_all=events_all, text=False)
    rows = [r for item in items if isinstance(item, Batch) for r in item.records()]
    return [(r.name, r.args or r.raw) for r in rows], replay.notes[0]


def test_formats_of_old_versions() -> None:
    """The case s11: ``%#x`` and ``%#02x``, and a decimal number behind ``0x``."""
    found, note = records(OLD / "old.log", OLD / "trace-events-old")
    assert [args for _, args in found] == [
        {"cpu_index": 0, "mr": 0x55AA10002000, "addr": 0x3F8, "value": 0x60, "size": 1},
        {"cpu_index": 0, "mr": 0x55AA10002000, "addr": 0, "value": 0, "size": 1},
        {"target": 0, "lun": 0, "tag": 3, "cdb1": 1, "cdb2": 0x80},
    ]
    assert note == (
        f"log text, events declared in {OLD}/trace-events-old; it fits 3 of the first 3 records"
    )
    found, _ = records(OLD / "misleading-hex.log", OLD / "trace-events-old")
    assert found == [("lsi_queue_command", {"tag": 10})]


def test_a_guess_is_told_and_how_much_of_it_does_not_fit(newer: Path) -> None:
    found, note = records(OLD / "misleading-hex.log", None)
    assert found == [("lsi_queue_command", {"tag": 16})]
    assert f"declared in {newer} (a guess: of the QEMUs installed here it fits best;" in note
    both = newer.with_name("both.log")
    # Two lines of an old format, and an event that 7.2 has no more.
    both.write_text(
        (OLD / "old.log").read_text()
        + (OLD / "misleading-hex.log").read_text()
        + "4711@1700000000.000003:an_old_event a 1\n2026-11-22T21:37:32.295065Z one_more\n"
    )
    _, note = records(both, None)
    assert note.endswith(
        "; it fits 1 of the first 6 records, and may be of another version, with arguments read "
        "wrong"
    )


def test_records_of_undeclared_events_are_unread(tmp_path: Path) -> None:
    """QEMU's own stamp stands before records only, so such a line is one, wherever it comes."""
    log = tmp_path / "log"
    lines = (OLD / "old.log").read_text() * 9000
    log.write_text(lines + "4711@1700000000.000003:no_more a 1\n4711@17 text\nIN: text\n")
    items, replay = read(log, events_all=OLD / "trace-events-old", text=False)
    assert sum(len(item) for item in items if isinstance(item, Batch)) == 27000
    assert (replay.counts.unread, replay.counts.filtered) == (1, 3)
    assert replay.unread_lines == ("4711@1700000000.000003:no_more a 1",)
    assert re.search(r"it fits (\d+) of the first \1 records$", replay.notes[0])


def test_json_says_it_too(run: Qtctl, newer: Path) -> None:
    log, known = OLD / "old.log", OLD / "trace-events-old"
    words = ("--events-all", str(known))
    used = [{"path": str(known), "guess": False, "fit": 3, "of": 3, "unit": "record"}]
    ran = run("replay", str(log), *words, "--ndjson").said(0)
    assert json.loads(ran.out.splitlines()[-1])["declarations"] == used
    ran = run("count", "--from", str(log), *words, "--json").said(0)
    assert json.loads(ran.out)["declarations"] == used
    ran = run("diff", str(log), str(log), *words, "--json").said(0)
    assert json.loads(ran.out)["a"]["declarations"] == used
    ran = run("export", "--to", "ndjson", str(log), *words).said(0)
    assert json.loads(ran.out.splitlines()[-1])["declarations"] == used
    wrong = ("--events-all", str(newer))
    ran = run("count", "--from", str(log), *wrong, "--json").said(
        0, "it fits 0 of the first 3 records, and may"
    )
    [found] = json.loads(ran.out)["declarations"]
    assert (found["guess"], found["fit"], found["of"]) == (False, 0, 3)


def test_a_folder_of_qemus_source(run: Qtctl, tmp_path: Path) -> None:
    tree = tmp_path / "qemu"
    parts = {
        "": 'memory_region_ops_read(int c, void *mr, uint64_t addr) "cpu %d mr %p addr %#"PRIx64\n',
        "hw/scsi": 'lsi_queue_command(uint32_t tag) "Queueing tag=0x%"PRIx32\n',
        "rust/hw/char": 'own_rust(uint8_t byte) "byte 0x%02x"\n',
    }
    for place, text in parts.items():
        (tree / place).mkdir(parents=True, exist_ok=True)
        (tree / place / "trace-events").write_text(text)
    assert len(declaration_files(tree)) == 3
    assert list(read_declarations(tree).by_name) == [
        "memory_region_ops_read", "lsi_queue_command", "own_rust",
    ]  # fmt: skip
    found, _ = records(OLD / "misleading-hex.log", tree)
    assert found == [("lsi_queue_command", {"tag": 16})]
    log = str(OLD / "misleading-hex.log")
    run("replay", log, "--events-all", str(tree)).said(0, f"declared in {tree}")
    (tree / "scripts/qapi").mkdir(parents=True)
    (tree / "scripts/qapi/commands.py").write_text("qmp_enter_%(name)s(const char *json)")
    (tree / "qapi").mkdir()
    (tree / "qapi/misc.json").write_text("# @stop:\n{ 'command': 'query-name',\n  'data': 1 }\n")
    made = read_declarations(tree).by_name
    assert made["qmp_enter_query_name"].format == "%s"
    assert [one.name for one in made["qmp_exit_query_name"].arguments] == ["result", "succeeded"]
    assert len(made) == 5
    (tree / "build/trace").mkdir(parents=True)
    (tree / "build/trace/trace-events-all").write_text("only()\n")
    assert list(read_declarations(tree).by_name) == ["only"]
    with pytest.raises(UsageError, match="no trace-events-all and no trace-events below"):
        read_declarations(CASES / "backends")


def test_a_recording_and_a_guest_have_their_own(run: Qtctl) -> None:
    ran = run("replay", str(CASES / "backends/dtrace-disordered.qtr"), "--ndjson").said(0)
    assert "declarations" not in json.loads(ran.out.splitlines()[-1])


def test_simple_traces_say_how_many_records_fit(newer: Path) -> None:
    data = gzip.decompress((DATA / "qemu-7.2-simple-v4.bin.gz").read_bytes())
    trace = newer.with_name("trace")
    trace.write_bytes(data)
    _, note = records(trace, None)
    assert "simple trace, 4069 events, declared in" in note
    assert re.search(r"it fits (\d+) of the first \1 records$", note)
