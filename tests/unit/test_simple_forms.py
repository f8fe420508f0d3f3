"""Files of the simple backend of all format versions and byte orders, from a plain writer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.simple.decoder import SimpleDecoder, read_names
from qtctl.backends.simple.forms import Form, as_written, form_of, numbered
from qtctl.errors import QtctlError
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from tests.recordings import read
from tests.samples import CASES, FORMS, declarations_text, running
from tests.simplefiles import DROPPED, KINDS, Row, file_of

DECLARED = parse_declarations(
    'none(void) ""\n'
    'few(int8_t a, const char *s, void *p) "%d %s %p"\n'
    'six(int a, int b, int c, int d, int e, uint64_t f) "%d %d %d %d %d %lu"\n'
).by_name
NAMES = list(DECLARED)
RECORDS: list[Row] = [
    (1, 10, (-5, b"a text", 2**63)),
    (0, 20, ()),
    (2, 30, (1, 2, 3, 4, -5, 6)),
    (DROPPED, 35, (77,)),
    (1, 40, (7, b"", 0)),
]


def written(form: Form, records: Sequence[Row]) -> bytes:
    return file_of(form, NAMES, records)


def decoder_of(form: Form) -> SimpleDecoder:
    table = EventTable.build(NAMES, as_written(DECLARED, form.version))
    return SimpleDecoder(table, form=form, numbered=() if form.named else NAMES)


def shown(items: Items) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if isinstance(item, Loss):
            out.append((item.count, item.time_ns))
        else:
            out += [(r.name, r.time_ns, r.pid, r.args, r.raw) for r in item.records()]
    return out


def expected(form: Form) -> list[Any]:
    pid = 4711 if form.version > 2 else None
    text: list[str | int] = ["a text", ""] if form.version else [0x7F00, 0x7F00]
    six = dict(zip("abcdef", (1, 2, 3, 4, -5, 6), strict=True))
    return [
        ("few", 10, pid, {"a": -5, "s": text[0], "p": 2**63}, None),
        ("none", 20, pid, {}, None),
        ("six", 30, pid, six, None),
        (77, 35 if form.version else 30),
        ("few", 40, pid, {"a": 7, "s": text[1], "p": 0}, None),
    ]


@pytest.mark.parametrize("kernels", FORMS)
@pytest.mark.parametrize("form", KINDS, ids=str)
def test_every_form_is_read_whole_and_in_pieces(form: Form, kernels: str) -> None:
    data = written(form, RECORDS)
    assert form_of(data, "t") == form
    assert read_names(data, form) == (NAMES if form.named else [])
    with running(kernels):
        for cut in range(0, len(data) + 1, 1 if kernels == "compiled" else 37):
            decoder = decoder_of(form)
            items = [
                *decoder.feed(data[:cut], Clocks(0)),
                *decoder.feed(data[cut:], Clocks(0)),
                *decoder.flush(Clocks(0)),
            ]
            assert shown(items) == expected(form)
            assert decoder.unread == 0


@pytest.mark.parametrize("form", KINDS, ids=str)
def test_a_cut_file_has_its_whole_records_and_a_loss(form: Form) -> None:
    whole = written(form, RECORDS)
    starts = [len(written(form, RECORDS[:count])) for count in range(len(RECORDS) + 1)]
    for size in range(starts[0], len(whole)):
        decoder = decoder_of(form)
        items = decoder.feed(whole[:size], Clocks(0)) + decoder.flush(Clocks(0))
        count = sum(start <= size for start in starts) - 1
        records = [row for row in shown(items) if len(row) > 2]
        assert records == [row for row in expected(form)[:count] if len(row) > 2]
        assert decoder.unread == size - starts[count]
        assert ((None, 0) in shown(items)) == (size > starts[count])


@pytest.mark.parametrize("form", KINDS, ids=str)
def test_reading_goes_on_behind_bytes_that_make_no_sense(form: Form) -> None:
    begin, rest = written(form, RECORDS[:2]), written(form, RECORDS)[len(written(form, [])) :]
    decoder = decoder_of(form)
    items = decoder.feed(begin + b"\xee" * 61 + rest, Clocks(0)) + decoder.flush(Clocks(0))
    assert shown(items) == [*expected(form)[:2], (None, 0), *expected(form)]
    assert (decoder.unread, decoder.first_unread) == (61, len(begin))


def test_ids_are_numbers_of_the_events_that_have_one() -> None:
    """Up to 2.0, tracetool numbers what is compiled in; in 0.14, ``disable`` is only the state."""
    some = parse_declarations("one()\ndisable two()\nthree()\n").by_name
    every = parse_declarations("disable one()\ndisable two()\n").by_name
    assert numbered(some, 0) == numbered(some, 2) == ["one", "three"]
    assert numbered(some, 3) == ["one", "two", "three"]
    assert numbered(every, 0) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "pid", "note"),
    [
        ("v0.bin", None, "simple trace of version 0, 2 events, declared in "),
        ("v2.bin", None, "simple trace of version 2, 2 events, declared in "),
        ("v3.bin", 4711, "simple trace of version 3, 2 events, declared in "),
        ("s390x-v4.bin", 4711, "simple trace, big endian, 1 event, declared in "),
    ],
)
def test_files_of_old_versions_and_other_machines(
    tmp_path: Path, name: str, pid: int | None, note: str
) -> None:
    """The case s13."""
    folder = CASES / "saved/s13-simple"
    known = folder / "trace-events"
    if name == "s390x-v4.bin":  # of a newer QEMU: with vdev
        (known := tmp_path / "trace-events-all").write_text(declarations_text("7.2"))
    items, replay = read(folder / name, events_all=known)
    records = [r for item in items if isinstance(item, Batch) for r in item.records()]
    done, started = {"req": 0x55AA10030000, "status": 0}, {"req": 0x55AA10030000}
    started |= {"sector": 2048, "nsectors": 8}
    rows: list[Any] = [
        ("virtio_blk_handle_read", started, 1000),
        ("virtio_blk_req_complete", done, 101000),
    ]
    if name == "s390x-v4.bin":
        rows = [("virtio_blk_req_complete", {"vdev": 1, **done}, 3000)]
    assert [(r.name, r.args, r.time_ns) for r in records] == rows
    assert {(r.pid, r.clock, r.backend) for r in records} == {
        (pid, Clock.MONOTONIC, Backend.SIMPLE)
    }
    assert replay.notes[0].startswith(note)
    assert not replay.problem


def test_declarations_that_cannot_be_numbered(tmp_path: Path) -> None:
    file = CASES / "saved/s13-simple/v3.bin"
    with pytest.raises(QtctlError, match="numbers for the names") as error:
        read(file)
    assert "trace-events of the QEMU" in error.value.hint
    for part in ("", "hw"):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / "trace-events").write_text(f'e_{part}(int a) "%d"\n')
    with pytest.raises(QtctlError, match="has 2"):
        read(file, events_all=tmp_path)


def test_declarations_of_another_version_are_told_by_how_little_fits(tmp_path: Path) -> None:
    wrong = tmp_path / "trace-events"
    wrong.write_text('one(int a) "%d"\nvirtio_blk_req_complete(void *req, int status) "%p %d"\n')
    _, replay = read(CASES / "saved/s13-simple/v3.bin", events_all=wrong)
    assert "it fits 0 of the first 2 records, and may be of another version" in replay.notes[0]
