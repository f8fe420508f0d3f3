"""``qtctl.open``: frames and batches of saved files, as the notebook in docs/api.md uses them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qtctl
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.saved import PlainFile
from qtctl.errors import UsageError
from qtctl.model import Mark
from qtctl.records.items import Item
from tests.exports import BEGIN, DECLARED, EXTREME
from tests.recordings import write
from tests.samples import batches, capture, declarations, event_table

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
def simple(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "all").write_text(DECLARED)
    (tmp_path / "trace").write_bytes(BEGIN + EXTREME)
    return tmp_path / "trace", tmp_path / "all"


def test_a_file_is_read_again_by_each_call(simple: tuple[Path, Path]) -> None:
    path, known = simple
    with qtctl.open(path, events_all=known) as trace:
        assert trace.events[:2] == ("odd", "none")
        assert [one.time_ns for one in trace.records()] == [
            time for batch in trace.batches() for time in batch.time_ns.tolist()
        ]
        assert [one.count for one in trace if isinstance(one, qtctl.Loss)] == [7]
        assert (trace.counts.read, trace.counts.lost, trace.problem) == (8, 7, "")
        assert trace.arrow("notes")["count"].to_pylist() == [7]


def test_frames_are_exact(simple: tuple[Path, Path]) -> None:
    path, known = simple
    trace = qtctl.open(str(path), events_all=str(known))
    values = [2**64 - 1 - n for n in range(5)]
    table = trace.arrow("odd")
    assert table["u"].to_pylist() == [*values, None]
    assert sum(map(len, trace.arrow_batches("odd"))) == len(table)
    frame = trace.pandas("odd")
    assert frame["u"].tolist()[:5] == values
    assert frame["u"].isna().tolist() == [False] * 5 + [True]
    assert str(frame["event_"].dtype) == "Int64"
    assert frame["s"].tolist()[1] == 'say "hi", \\ x'
    assert trace.polars("odd")["u"].to_list() == [*values, None]
    assert trace.polars()["event"].to_list().count("none") == 2
    assert len(trace.pandas()) == 8


def test_selection_filter_and_text(simple: tuple[Path, Path], tmp_path: Path) -> None:
    path, known = simple
    trace = qtctl.open(path, "*", where="i > -2", events_all=known)
    assert trace.arrow("odd")["i"].to_pylist() == [0, -1]
    only = qtctl.open(path, qtctl.Selection.of("n*"), events_all=known)
    assert (only.events, len(only.arrow())) == (("none",), 2)
    with pytest.raises(qtctl.NothingMatched, match="odd"):
        only.arrow("odd")
    with pytest.raises(qtctl.NothingMatched):
        qtctl.open(path, "nothing", events_all=known)
    with pytest.raises(qtctl.UsageError):
        qtctl.open(tmp_path / "absent")
    log = tmp_path / "log"
    log.write_bytes(b"none \nno event\n")
    text = qtctl.open(log, events_all=known)
    assert text.arrow("lines")["line"].to_pylist() == ["no event"]
    assert text.pandas("odd").empty
    assert list(text.pandas("odd").columns) == text.arrow("odd").column_names


def test_a_damaged_file_is_never_read_in_silence(simple: tuple[Path, Path]) -> None:
    path, known = simple
    path.write_bytes(path.read_bytes()[:-2])
    trace = qtctl.open(path, events_all=known)
    for read in (trace.arrow, trace.pandas, trace.polars, lambda: list(trace)):
        with pytest.raises(qtctl.QtctlError, match="partial=True"):
            read()
    assert trace.problem
    part = qtctl.open(path, events_all=known, partial=True)
    assert len(part.arrow()) == 7
    assert part.problem == trace.problem


def test_the_notebook_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = capture("qemu-7.2-log-timestamp.txt")
    found = LogDecoder(event_table("7.2")).end(data, Clocks(1))
    items: list[Item] = [*batches(found), Mark("end", 1)]
    write(tmp_path / "disk.qtr", items, declarations("7.2").by_name)
    monkeypatch.chdir(tmp_path)
    code = re.search(r"In a notebook:\n\n```python\n(.*?)```", DOCS.read_text(), re.S)
    assert code is not None
    exec(code[1], {})
    assert " records" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "hint"), [("disk.qt", "disk.qtr"), ("other", "")])
def test_a_file_that_is_not_there_gets_the_near_one(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "disk.qtr").touch()
    with pytest.raises(UsageError, match="No such file") as caught:
        PlainFile(tmp_path / name)
    assert caught.value.hint == (hint and str(tmp_path / hint))
