"""The kernels' own contracts, compiled and interpreted."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qtctl
from qtctl.backends.log import kernel as splitting
from qtctl.records.batch import EventTable, StringColumn
from qtctl.records.kernels import grouping
from tests.samples import FORMS, forms, interpreted, running

PACKAGE = Path(qtctl.__path__[0])
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path
    for path in sorted(PACKAGE.rglob("[!_]*.py"))
    if path.name == "kernel.py" or "kernels" in path.parts
}


@pytest.mark.parametrize("source", SOURCES)
def test_interpreted_kernels_need_no_cython(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cython", None)
    names = runpy.run_path(str(SOURCES[source]))
    assert names["cython"].compiled is False
    assert names.get("COMPILED", False) is False


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_names_are_found_and_others_are_not(form: str, count: int) -> None:
    names = [f"event_{number:x}_name" for number in range(count)]
    with running(form):
        table = EventTable.build(names, {})
    data = "\n".join([*names, "event_", "event_1_nam", ""]).encode()
    module = splitting if form == "compiled" else interpreted("qtctl.backends.log.kernel")
    assert _events(module, table, data) == [*range(count), -1, -1]


def _events(module: ModuleType, table: EventTable, data: bytes) -> list[int]:
    rows = data.count(b"\n") + 1
    event, tid = np.empty(rows, np.int32), np.empty(rows, np.int32)
    time_ns, start, named, begin, stop = (np.empty(rows, np.int64) for _ in range(5))
    stamp = np.zeros(5, np.int64)
    count, reached = module.split_lines(
        data, table.blob, table.offsets.data, table.slots.data, table.extra_lines.data,
        table.longest, stamp.data, False, False, event.data, time_ns.data, tid.data, start.data,
        named.data, begin.data, stop.data, 0, 1 << 20,
    )  # fmt: skip
    assert reached == len(data)
    return [int(index) for index in event[:count]]


@given(events=st.lists(st.integers(-1, 6)))
def test_grouping_is_a_stable_sort(events: list[int]) -> None:
    event = np.array(events, np.int32)
    expected = np.argsort(event, kind="stable").tolist()
    for module in (grouping, interpreted("qtctl.records.kernels.grouping")):
        heads = np.zeros(8, np.int64)
        np.cumsum(np.bincount(event + 1, minlength=8)[:7], out=heads[1:])
        order = np.empty(len(events), np.int64)
        module.group_rows(event.data, heads.data, order.data)
        assert order.tolist() == expected


@given(texts=st.lists(st.binary(max_size=3)))
def test_distinct_texts(texts: list[bytes]) -> None:
    stops = np.cumsum([len(text) for text in texts], dtype=np.int64)
    starts = stops - np.array([len(text) for text in texts], np.int64)
    expected = [text.decode("utf-8", "surrogateescape") for text in texts]
    for form in forms():
        with running(form):
            column = StringColumn.from_spans(b"".join(texts), starts, stops)
            assert len(column) == len(texts)
            assert column.take(np.arange(len(texts))).tolist() == expected
            assert column.tolist() == expected
            assert column.uniques == tuple(dict.fromkeys(expected))
            assert column.take(np.arange(len(texts))[::-1]).tolist() == expected[::-1]
