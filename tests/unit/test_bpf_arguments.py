"""Arguments in recordings of qtctl 0.1, as bpftrace printed them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.dtrace.arguments import BpfArguments, reader
from qtctl.events.declarations import parse_declarations
from qtctl.records.event_table import EventTable
from tests.samples import FORMS, running

MARK = b" |77| "
DECLARED = parse_declarations(
    'own_text(void *dev, const char *name, int ret) "%p %s %d"\n'
    'own_pair(const char *one, int8_t number, const char *two) "%s %d %s"\n'
).by_name
TABLE = EventTable.build(DECLARED, DECLARED)
TEXT, PAIR = range(2)


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


def read(event: int, text: bytes) -> tuple[dict[str, object], bool, bool]:
    """Return the arguments, whether they could be read, and whether they may be cut."""
    found = reader(TABLE, {"arguments": "bpf", "mark": MARK.hex()})
    assert isinstance(found, BpfArguments)
    begin, stop = np.array([0]), np.array([len(text)])
    columns, ok = found.read(text, event, begin, stop)
    values = {name: column.tolist()[0] for name, column in columns.items()}
    return values, bool(ok[0]), bool(found.cut(text, event, begin, stop)[0])


@pytest.mark.usefixtures("kernels")
def test_arguments_are_as_declared() -> None:
    every = bytes(range(1, 50)) + bytes(range(245, 256))
    values, good, _ = read(TEXT, b"ffffffffffffffff fffffffe " + escaped(every))
    name = every.decode("utf-8", "surrogateescape")
    assert (values, good) == ({"dev": 2**64 - 1, "name": name, "ret": -2}, True)
    values, good, _ = read(PAIR, b"fff8 " + escaped(b'a" |\\ ') + MARK)
    assert (values, good) == ({"one": 'a" |\\ ', "number": -8, "two": ""}, True)


@pytest.mark.usefixtures("kernels")
def test_a_text_that_bpftrace_may_have_cut_is_marked() -> None:
    for size, cut in ((62, False), (63, True)):
        assert read(TEXT, b"5 6 " + b"x" * size)[1:] == (not cut, cut)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "bad",
    [
        b"", b"5", b"5 6", b"5  6 a", b"5 6 a\\", b"5 6 \\u00", b"5 6 \\ufffffff", b"5 6 \\q",
        b"11111111111111111 6 a",
    ],
)  # fmt: skip
def test_arguments_that_are_none_are_not_read(bad: bytes) -> None:
    assert read(TEXT, bad)[1:] == (False, False)
    assert read(PAIR, b"7 only one")[1] is False


@given(st.binary(max_size=60))
def test_texts_come_back_whole(text: bytes) -> None:
    text = text.replace(b"\0", b"")
    values, good, _ = read(TEXT, b"5 6 " + escaped(text))
    assert (values["name"], good) == (text.decode("utf-8", "surrogateescape"), True)
