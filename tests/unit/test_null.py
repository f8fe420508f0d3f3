"""A text that is NULL is null in every output, and in filters; (null) for people."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.records.arrow import event_rows, event_schema
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable
from qtctl.records.filters import Filter
from qtctl.text.style import Style
from qtctl.writers.csv import CsvExport
from qtctl.writers.ndjson import json_lines
from qtctl.writers.rows import RowFormatter
from tests.samples import only_batch

DECLARED = parse_declarations(
    'say(const char *s, int a) "s=%s a=%d"\nwide(const char *s) "%9s|"\n'
).by_name
TABLE = EventTable.build(None, DECLARED)
TEXT = b"say s=(null) a=1\nsay s= a=2\nsay s=x a=3\nsay s=((null)) a=4\n"


def batch() -> Batch:
    return only_batch(LogDecoder(TABLE).end(TEXT, Clocks(1)))


def test_printed_text() -> None:
    texts = [record.args["s"] for record in batch().records()]
    assert texts == [None, "", "x", "((null))"]
    padded = only_batch(LogDecoder(TABLE).end(b"wide    (null)|\n", Clocks(1)))
    assert [record.raw for record in padded.records()] == ["   (null)|"]


def test_outputs() -> None:
    found = batch()
    assert [json.loads(line)["args"]["s"] for line in json_lines(found)] == [
        None,
        "",
        "x",
        "((null))",
    ]
    shown = RowFormatter(Style(width=0, colour=False, unicode=True), "none", {}, TABLE.names)
    assert shown.rows(found)[:2] == ["say s=(null) a=1", "say s='' a=2"]
    export = CsvExport(["s", "a"])
    lines = [*export.lines(found, 4), *export.ended(Counts())]
    assert [line.split(",")[-2] for line in lines[1:]] == ["", "", "x", "((null))"]
    pytest.importorskip("pyarrow")
    rows = event_rows(found, name="say", schema=event_schema(TABLE, "say"), file=None)
    assert rows.column("s").to_pylist() == [None, "", "x", "((null))"]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("s == None", [1]),
        ("s != None", [2, 3, 4]),
        ("None == s", [1]),
        ("s in ('x', None)", [1, 3]),
        ("s < 'y'", [2, 3, 4]),
        ("not s < 'a'", [3]),
        ("'n' in s", [4]),
        ("not 'n' in s", [2, 3]),
        ("s == s", [1, 2, 3, 4]),
    ],
)
def test_filters(where: str, rows: list[int]) -> None:
    found = batch()
    mask = Filter.compile(where, list(DECLARED.values())).mask(found)
    assert (np.flatnonzero(mask) + 1).tolist() == rows


def test_selected_rows_have_the_arguments_that_were_read_before() -> None:
    found, fresh = batch(), batch()
    found.arguments(0)
    for rows in (np.array([3, 0, 0]), np.array([False, True, True, False]), slice(1, 4)):
        part = found.select(rows)
        assert list(part.records()) == list(fresh.select(rows).records())
        again = part.select(np.arange(len(part))[::-1])
        assert list(again.records()) == list(part.records())[::-1]
