"""The decoder of bpftrace's lines: real lines, losses counted once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace.decoder import BpfDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from tests.samples import FORMS, capture, running

NOW = 77
OFFSET = 1000
MARK = b" |77| "
DECLARED = """
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_pair(const char *one, int8_t number, const char *two) "%s %d %s"
own_nothing(void) "nothing"
"""
TABLE = EventTable.build(
    [*parse_declarations(DECLARED).by_name, "own_undeclared"], parse_declarations(DECLARED).by_name
)


@pytest.fixture(params=FORMS)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


def escaped(text: bytes) -> bytes:
    """Escape a text as bpftrace 0.17 does (``src/output.cpp``, json_escape)."""
    named = {9: b"\\t", 10: b"\\n", 13: b"\\r", 8: b"\\b", 12: b"\\f", 34: b'\\"', 92: b"\\\\"}
    out = b""
    for byte in text:
        if byte in named:
            out += named[byte]
        elif byte < 32:
            out += b"\\u%04x" % byte
        elif byte >= 128:
            out += b"\\uffffff%02x" % byte
        else:
            out += bytes((byte,))
    return out


def line(text: bytes) -> bytes:
    return b'{"type": "printf", "data": "' + text + b'\\n"}\n'


def lost(count: int) -> bytes:
    return json.dumps({"type": "lost_events", "data": {"events": count}}).encode() + b"\n"


def decoder_of(table: EventTable = TABLE) -> BpfDecoder:
    return BpfDecoder(table, MARK, pid=9)


def decoded(
    data: bytes, cuts: list[int] | None = None, decoder: BpfDecoder | None = None
) -> list[Record | Loss]:
    decoder = decoder or decoder_of()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    items: list[Batch | Loss] = []
    for low, high in pairwise(edges):
        items += decoder.feed(data[low:high], Clocks(NOW, OFFSET))
    items += decoder.flush(Clocks(NOW, OFFSET))
    assert decoder.pending_bytes == 0
    out: list[Record | Loss] = []
    for item in items:
        out += list(item.records()) if isinstance(item, Batch) else [item]
    return out


@pytest.mark.usefixtures("kernels")
def test_a_record_has_its_arguments_as_declared() -> None:
    every = bytes(range(1, 256))
    found = decoded(
        b'{"type": "attached_probes", "data": {"probes": 3}}\n'
        + line(b"0 1f 6ee ffffffffffffffff fffffffe " + escaped(every))
        + line(b"1 2f 6ee fff8 " + escaped(b'a" |\\ ') + MARK)
        + line(b"2 30 6ee")
        + line(b"3 31 6ee 11 12")
        + b"\n\n"
    )
    assert all(isinstance(item, Record) for item in found)
    text, pair, nothing, undeclared = (item for item in found if isinstance(item, Record))
    name = every.decode("utf-8", "surrogateescape")
    assert text.args == {"dev": 2**64 - 1, "name": name, "ret": -2}
    assert (text.time_ns, text.clock, text.tid, text.pid) == (1031, Clock.REALTIME, 0x6EE, 9)
    assert pair.args == {"one": 'a" |\\ ', "number": -8, "two": ""}
    assert list(pair.args) == ["one", "number", "two"]
    assert (nothing.name, nothing.args, nothing.raw) == ("own_nothing", {}, None)
    assert undeclared.raw == "11 12"


def test_a_text_that_bpftrace_may_have_cut_is_marked() -> None:
    found = decoded(
        line(b"0 1f 6ee 1 2 " + b"x" * 62)
        + line(b"0 1f 6ee 1 2 " + b"x" * 63)
        + line(b"0 1f 6ee 1")
    )
    shown = [(one.args != {}, one.cut) for one in found if isinstance(one, Record)]
    assert shown == [(True, False), (False, True), (False, False)]


@pytest.mark.usefixtures("kernels")
def test_losses_are_told_at_their_place_and_signs_of_life_are_no_records() -> None:
    decoder = decoder_of()
    data = line(b"2 1 1") + lost(12) + line(b"~ 2f 1") + line(b"2 2 1") + line(b"~ 4f 1") + lost(3)
    found = decoded(data, decoder=decoder)
    kinds = [item.count if isinstance(item, Loss) else item.name for item in found]
    assert kinds == ["own_nothing", 12, "own_nothing", 3]
    assert decoder.alive == {1: 0x4F}


def test_a_loss_is_told_without_the_signs_of_life_among_it() -> None:
    """Both CPUs must have spoken before it is known how many of their signs were lost."""
    parts = [line(b"~ 10 0 1"), line(b"~ 10 1 1"), line(b"2 11 1"), lost(10), line(b"2 12 1")]
    parts += [line(b"~ 13 0 4"), line(b"2 14 1"), line(b"~ 15 1 3"), line(b"2 16 1"), lost(2)]
    found = decoded(b"".join(parts))
    kinds = [item.count if isinstance(item, Loss) else item.time_ns - OFFSET for item in found]
    assert kinds == [0x11, 0x12, 0x14, 10 - 2 - 1, 0x16, 2]
    only_signs = decoded(line(b"~ 1 0 1") + lost(3) + line(b"~ 2 0 5") + line(b"2 3 1"))
    assert [type(item) for item in only_signs] == [Record]


def test_a_batch_is_in_the_order_of_time() -> None:
    found = decoded(line(b"2 5 1") + line(b"2 7 1") + line(b"2 4 2") + line(b"2 6 2"))
    assert [item.time_ns - OFFSET for item in found if isinstance(item, Record)] == [4, 5, 6, 7]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "bad",
    [
        b"4 1 1", b"-1 1 1", b"2", b"2 1", b"2 1 ", b"2  1 1", b"2 1 80000000", b"~~ 1 1",
        b"2 8000000000000000 1", b"2 11111111111111111 1", b"A 1 1", b"", b" ", b"2 1 1x",
    ],
)  # fmt: skip
def test_a_head_that_is_none_stays_text(bad: bytes) -> None:
    (found,) = decoded(line(bad))
    assert isinstance(found, Record)
    assert (found.name, found.line) == ("", line(bad)[:-1].decode())


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "bad",
    [
        b"0 1 1", b"0 1 1 5", b"0 1 1 5 6", b"0 1 1 5  6 a", b"0 1 1 5 6 a\\", b"0 1 1 5 6 \\u00",
        b"0 1 1 5 6 \\ufffffff", b"0 1 1 5 6 \\q", b"1 1 1 7 only one", b"2 1 1 more",
        b"0 1 1 11111111111111111 6 a",
    ],
)  # fmt: skip
def test_arguments_that_are_none_keep_their_text(bad: bytes) -> None:
    good = line(b"0 1 1 5 6 fine")
    before, found, after = decoded(good + line(bad) + good)
    assert isinstance(found, Record)
    assert found.raw == bad[6:].decode()
    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert before.args == after.args == {"dev": 5, "name": "fine", "ret": 6}


def test_what_was_captured_is_nothing_of_ours_but_kept() -> None:
    data = capture("qemu-7.2-dtrace-bpftrace.jsonl")
    found = decoded(data)
    kept = [json.loads(item.line or "") for item in found if isinstance(item, Record)]
    lines = [json.loads(text) for text in data.splitlines() if text]
    assert kept == [one for one in lines if one["type"] == "printf"]


@given(st.binary(max_size=300), st.randoms(use_true_random=False))
def test_texts_come_back_whole(text: bytes, rng: random.Random) -> None:
    text = text.replace(b"\0", b"")
    (found,) = decoded(line(b"0 1 1 5 6 " + escaped(text)), [rng.randrange(400)])
    assert isinstance(found, Record)
    assert found.args["name"] == text.decode("utf-8", "surrogateescape")
