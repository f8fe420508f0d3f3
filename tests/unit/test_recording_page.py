"""docs/recording.md is enough to read a recording: the reader in it reads what qtctl wrote."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends import table
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.simple.arguments import SimpleReader
from qtctl.model import Backend, Clock, Control, GuestEvent, Mark
from qtctl.recordings import chunks
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from qtctl.records.origins import Origin
from qtctl.records.schema import to_object
from tests.exports import BEGIN, DECLARED, EXTREME
from tests.recordings import FACTS, read, write
from tests.samples import batches, capture, declarations

PAGE = (Path(__file__).parents[2] / "docs" / "recording.md").read_text()
TABLE = EventTable.build(["none", "some"], {})


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Return what the code of the page defines; it imports nothing of qtctl."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert "qtctl" not in code
    found: dict[str, Any] = {}
    exec(code, found)
    return found


def told(items: Iterable[Item]) -> list[Any]:
    """Return items as the page's reader yields them."""
    found: list[Any] = []
    for item in items:
        if not isinstance(item, Batch):
            found.append(to_object(item))
            continue
        for row, record in enumerate(item.records()):
            begin = item.start[row] if record.line is not None else item.begin[row]
            found.append(
                {
                    "type": "record",
                    "event": None if record.line is not None else record.name,
                    "time_ns": record.time_ns,
                    "clock": str(record.clock),
                    "tid": record.tid,
                    "pid": record.pid,
                    "backend": str(record.backend),
                    "cut": item.is_cut(row),
                    "form": item.reader.stored()["arguments"] if item.reader else "text",
                    "arguments": item.data[begin : item.stop[row]],
                }
            )
    return found


def batch(rows: list[tuple[int, int, int, bool, bool, bytes]], reader: Any = None) -> Batch:
    """Return a batch of rows: event, time, thread, arrived, cut, arguments."""
    events, times, tids, arrived, cut, texts = zip(*rows, strict=True)
    stops = np.cumsum([len(text) for text in texts]).astype(np.int64)
    starts = stops - np.array([len(text) for text in texts], np.int64)
    return Batch(
        table=TABLE,
        data=b"".join(texts),
        event=np.array(events, np.int32),
        time_ns=np.array(times, np.int64),
        tid=np.array(tids, np.int32),
        start=starts,
        begin=starts,
        stop=stops,
        arrived=np.array(arrived, np.bool_),
        origin=np.zeros(len(rows), np.int32),
        origins=[Origin(4711)],
        clock=Clock.MONOTONIC,
        backend=Backend.SIMPLE,
        reader=reader,
        cut=np.array(cut, np.bool_),
    )


NOTES: list[Item] = [
    Loss(Backend.LOG, None, 3),
    Mark("reset \udcff", 4),
    GuestEvent("STOP", {"a": [1]}, 4),
    Control("enable", ("*",), 7, 4),
]
ROWS = st.lists(
    st.tuples(
        st.integers(-1, 1),
        st.integers(-(2**61), 2**61) | st.integers(0, 5).map(lambda n: n * 1000),
        st.integers(-1, 2**31 - 1),
        st.booleans(),
        st.booleans(),
        st.binary(max_size=4) | st.sampled_from([1023, 1024, 2000]).map(lambda n: b"abc" * n),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ROWS.map(batch) | st.sampled_from(NOTES), max_size=4), st.booleans())
def test_the_page_reads_whatever_is_recorded(
    page: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    items: list[Item],
    every: bool,
) -> None:
    path = tmp_path_factory.mktemp("page") / "rec"
    write(path, items, {}, names=TABLE.names, every=every)
    assert list(page["records"](path.read_bytes())) == told(items)


def test_the_page_reads_a_real_log(page: dict[str, Any], tmp_path: Path) -> None:
    declared = declarations("7.2").by_name
    decoder = LogDecoder(EventTable.build(None, declared))
    found = batches(decoder.end(capture("qemu-7.2-log-timestamp.txt"), Clocks(1)))
    write(tmp_path / "rec", found, declared)
    data = (tmp_path / "rec").read_bytes()
    assert list(page["records"](data)) == told(found)
    assert told(read(tmp_path / "rec")[0]) == told(found)
    kinds = [kind for kind, _ in page["chunks"](data)]
    assert (kinds[0], kinds[-1]) == (page["FACTS"], page["END"])
    facts, end = (json.loads(raw) for kind, raw in page["chunks"](data) if kind in (1, 4))
    assert facts == FACTS
    assert end["summary"]["shown"] == sum(map(len, found))
    [size] = struct.unpack("<I", data[-8:-4])
    assert data[-16:-8] == b"\x89QTREND\n"
    assert page["checked"](data[-16:])
    assert data[-16 - size :].startswith(b"\xf5qtchunk")
    assert [data[at : at + 8] for at in end["chunks"]] == [b"\xf5qtchunk"] * len(end["chunks"])


def test_the_page_reads_arguments_of_the_simple_backend(
    page: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "all").write_text(DECLARED)
    (tmp_path / "trace").write_bytes(BEGIN + EXTREME)
    items, replay = read(tmp_path / "trace", events_all=tmp_path / "all")
    assert any(isinstance(i, Batch) and isinstance(i.reader, SimpleReader) for i in items)
    write(tmp_path / "rec", items, replay.table.declarations)
    data = (tmp_path / "rec").read_bytes()
    declared = {
        name: known and known[1]
        for kind, raw in page["chunks"](data)
        if kind == page["NAMES"]
        for name, known in json.loads(raw)
    }
    wanted = [
        record
        for item in items
        if isinstance(item, Batch)
        for record in item.records()
        if record.name == "odd" and record.raw is None
    ]
    found = [one for one in page["records"](data) if one.get("event") == "odd"]
    for one, record in zip(found, wanted, strict=False):
        values = [
            value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            for value in record.args.values()
        ]
        assert page["simple"](one["arguments"], declared["odd"]) == values
    assert len(wanted) == 5


@pytest.mark.parametrize("end", [True, False])
def test_the_page_reads_what_damage_leaves(page: dict[str, Any], tmp_path: Path, end: bool) -> None:
    items = [batch([(0, n, 1, False, False, b"x")]) for n in range(4)]
    write(tmp_path / "rec", items, {}, names=TABLE.names, every=True, end=end)
    data = bytearray((tmp_path / "rec").read_bytes())
    second = [one.start() for one in re.finditer(b"\xf5qtchunk", data)][3]
    data[second + chunks.HEAD_BYTES + 5] ^= 1
    (tmp_path / "rec").write_bytes(data)
    found = [one["time_ns"] for one in page["records"](bytes(data))]
    assert found == [0, 2, 3]
    kept = [one["time_ns"] for one in told(read(tmp_path / "rec")[0]) if one["type"] == "record"]
    assert kept == found


def test_the_page_names_what_the_format_has() -> None:
    """A new version, kind of chunk or form of arguments must be described."""
    assert f"its version is {chunks.VERSION}." in PAGE
    for kind in chunks.ChunkKind:
        assert f"{int(kind)} {kind.name}" in PAGE
    for form in {"text", *" ".join(row.arguments for row in table.TABLE.values()).split()}:
        assert f"| `{form}` |" in PAGE
