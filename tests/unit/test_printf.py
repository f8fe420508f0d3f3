"""Text back to arguments: single conversions, ambiguity, and every event of three QEMUs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.model import Argument, Declaration, Kind
from qtctl.records.batch import EventTable
from qtctl.records.kernels import parsing
from qtctl.records.printf import Op, make_plan
from tests.rendering import render
from tests.samples import (
    VERSIONS,
    declarations,
    event_table,
    parse_one,
    running,
)

Values = dict[str, int | str | None]


def read_rows(table: EventTable, event: int, texts: list[str]) -> list[Values | None]:
    """Read rows of one event; None for a row that cannot be read in exactly one way."""
    rows = [text.encode("utf-8", "surrogateescape") for text in texts]
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    begins = ends - np.array([len(row) for row in rows], np.int64)
    columns, ok = table.read(b"".join(rows), event, begins, ends)
    lists = {name: column.tolist() for name, column in columns.items()}
    return [
        {name: values[row] for name, values in lists.items()} if ok[row] else None
        for row in range(len(texts))
    ]


def read(declaration: Declaration, text: str) -> Values | None:
    return read_rows(EventTable.build(None, {declaration.name: declaration}), 0, [text])[0]


@pytest.mark.parametrize(
    ("line", "text", "value"),
    [
        ('e(uint32_t x) "%d"', "-1", 4294967295),
        ('e(int x) "%x"', "ffffffff", -1),
        ('e(int8_t x) "0x%x"', "0xffffff80", -128),
        ('e(int8_t x) "0x%x"', "0x80", None),
        ('e(uint8_t x) "%02x"', "1ff", None),
        ('e(uint8_t x) "%02x"', "0f", 15),
        ('e(uint8_t x) "%02x"', "f", None),
        ('e(uint8_t x) "%x"', "0f", None),
        ('e(uint8_t x) "%X"', "FE", 254),
        ('e(uint8_t x) "%X"', "fe", None),
        ('e(uint64_t x) "%" PRIx64', "ffffffffffffffff", (1 << 64) - 1),
        ('e(uint64_t x) "%" PRIx64', "10000000000000000", None),
        ('e(uint64_t x) "%" PRIu64', "18446744073709551615", (1 << 64) - 1),
        ('e(uint64_t x) "%" PRIu64', "18446744073709551616", None),
        ('e(uint64_t x) "%" PRIu64', "99999999999999999999", None),
        ('e(int64_t x) "%" PRId64', "-9223372036854775808", -(1 << 63)),
        ('e(int64_t x) "%" PRId64', "9223372036854775808", None),
        ('e(int x) "%d"', "-0", None),
        ('e(int x) "%d"', "2147483648", None),
        ('e(int x) "%3d"', "  7", 7),
        ('e(int x) "%3d"', " 7", None),
        ('e(int x) "%3d"', "  -77", None),
        ('e(int x) "%3d"', "1234", 1234),
        ('e(int x) "%03d"', "-07", -7),
        ('e(int x) "%.8x"', "0000000a", 10),
        ('e(int x) "%2.2x"', "0a", 10),
        ('e(int x) "%4.2x"', "  0a", 10),
        ('e(unsigned x) "%o"', "17", 15),
        ('e(int x) "%#x"', "0x1f", 31),
        ('e(int x) "%#x"', "0", 0),
        ('e(int x) "%#x"', "0x0", None),
        ('e(int x) "%#x"', "1f", None),
        ('e(int x) "%#X"', "0X1F", 31),
        ('e(int x) "%#02x"', "0x1", 1),
        ('e(int x) "%#02x"', "00", 0),
        ('e(int x) "%#06x"', "0x0001", 1),
        ('e(int x) "%#06x"', "0x001", None),
        ('e(int x) "%#.4x"', "0x0001", 1),
        ('e(int x) "%#.4x"', "0000", 0),
        ('e(int x) "%#6x|"', "   0x1|", 1),
        ('e(uint64_t x) "%#" PRIx64', "0xffffffffffffffff", (1 << 64) - 1),
        ('e(int x) "%+d"', "+7", 7),
        ('e(int x) "%+d"', "7", None),
        ('e(int x) "%+04d"', "-007", -7),
        ('e(int x) "%-5d|"', "-7   |", -7),
        ('e(int x) "%-5d|"', "-7  |", None),
        ('e(int x) "%-5d|"', "123456|", 123456),
        ('e(int x) "%-#6x|"', "0x1f  |", 31),
        ('e(char x) "<%c>"', "<A>", 65),
        ('e(char x) "<%c>"', "<\udcff>", -1),
        ('e(void *x) "%p"', "0x7fff", 0x7FFF),
        ('e(void *x) "%p"', "(nil)", 0),
        ('e(void *x) "%p."', "(nil).", 0),
        ('e(void *x) "%p"', "0x", None),
        ('e(void *x) "%p"', "0x12345678123456789", None),
        ('e(const char *x) "%s"', "", ""),
        ('e(const char *x) "%s"', "a \udcff\x00é", "a \udcff\x00é"),
        ('e(const char *x) "100%% %s%%"', "100% a%%", "a%"),
        ('e(const char *x) "%6s|"', "   abc|", None),
        ('e(const char *x) "%6s|"', "abcdef|", "abcdef"),
        ('e(const char *x) "%6s|"', " abcdefg|", " abcdefg"),
        ('e(const char *x) "%6s|"', "ab|", None),
        ('e(size_t x) "%zu"', "12", 12),
        ('e(ssize_t x) "%zd"', "-12", -12),
        ('e(unsigned long long x) "%llu"', "12", 12),
        ('e(int x) "%d rest"', "12 res", None),
        ('e(int x) "%d rest"', "12 rest ", None),
    ],
)
def test_one_conversion(line: str, text: str, value: int | str | None) -> None:
    found = read(parse_one(line), text)
    assert found == (None if value is None else {"x": value})


@pytest.mark.parametrize(
    ("line", "text", "values"),
    [
        ('e(char *a, char *b) "%s %s"', "one two", {"a": "one", "b": "two"}),
        ('e(char *a, char *b) "%s %s"', "one two three", None),
        ('e(char *a, char *b) "%s: %s"', "a b: c d", {"a": "a b", "b": "c d"}),
        ('e(char *a, int b) "%s %d"', "a 1 2", {"a": "a 1", "b": 2}),
        ('e(char *a, int b) "%s%d"', "foo1", {"a": "foo", "b": 1}),
        ('e(char *a, int b) "%s%d"', "foo12", None),
        ('e(uint8_t a, uint8_t b) "%02x%02x"', "0aff", {"a": 10, "b": 255}),
        ('e(int a, char *b) "%d%s"', "12ab", None),
        ('e(int a, char *b) "%x bytes%s"', "c bytes", {"a": 12, "b": ""}),
        ('e(int a, int b) "%xa%x"', "1a2", {"a": 1, "b": 2}),
        ('e(int a, int b) "%xa%x"', "1a2a3", None),
        ('e(int w, int a, int b) "%0*x %d"', "0010 7", {"a": 16, "b": 7}),
        ('e(char *a, char *b) "a=%s b=%s"', "a=x b=y b=z", None),
        ('e(int a, int b) "%d\\n%d"', "1\n2", {"a": 1, "b": 2}),
    ],
)
def test_splits_are_unique_or_refused(line: str, text: str, values: Values | None) -> None:
    assert read(parse_one(line), text) == values


@pytest.mark.parametrize(
    "line",
    [
        'e(char *a, char *b) "%s%s"',
        'e(int a, int b) "%d%d"',
        'e(int a) "%d %d"',
        'e(char *a) "%p"',
        'e(int a) "%s"',
        'e(int n, char *a) "%.*s"',
        'e(int a) "% 5d"',
        'e(int a) "%#o"',
        'e(char *a) "%-6s"',
        'e(int a) "%c"',
        'e(int a) "%"',
        'e(double a) "%f"',
    ],
)
def test_no_inverse_says_why(line: str) -> None:
    plan = make_plan(parse_one(line))
    assert plan.reason
    assert not plan.steps
    assert read(plan.declaration, "12") is None


def test_plans_of_real_events() -> None:
    refused = [
        declaration.name
        for version in VERSIONS
        for declaration in declarations(version).by_name.values()
        if make_plan(declaration).reason
    ]
    assert len(refused) == 7 + 9 + 9
    table = event_table("7.2")
    assert table.extra_lines[table.indices["sh7750_porta"]] == 1
    assert make_plan(declarations("7.2").by_name["empty_slot_write"]).hidden == ("width",)


def random_value(random_: random.Random, argument: Argument, printed_as_byte: bool) -> int | str:
    if argument.kind is Kind.STRING:
        size = random_.choice((0, 1, 3, 12))
        letters = bytes(byte for byte in range(256) if byte not in b"\n ")
        text = bytes(random_.choice(letters) for _ in range(size))
        return text.decode("utf-8", "surrogateescape")
    if printed_as_byte:
        byte = random_.choice([byte for byte in range(256) if byte != 10])
        return byte - 256 if argument.signed and argument.bits == 8 and byte > 127 else byte
    value = random_.choice((0, 1, 9, 10, (1 << argument.bits) - 1, random_.getrandbits(64)))
    value >>= random_.choice((0, 0, argument.bits // 2, argument.bits - 1))
    value &= (1 << argument.bits) - 1
    return value - (1 << argument.bits) if argument.signed and value >> argument.bits - 1 else value


@pytest.mark.parametrize("version", VERSIONS)
def test_every_event_goes_round(version: str) -> None:
    """What is read is what was printed; without text in it, everything is read."""
    source = random.Random(version)
    table = event_table(version)
    total = read_back = 0
    for index, name in enumerate(table.names):
        plan = make_plan(table.declarations[name])
        if plan.reason or plan.hidden:
            continue
        as_byte = {step.argument for step in plan.steps if step.op is Op.CHARACTER}
        certain = all(step.only for step in plan.steps)
        rows: list[Values] = [
            {
                argument.name: random_value(source, argument, at in as_byte)
                for at, argument in enumerate(plan.declaration.arguments)
            }
            for _ in range(3)
        ]
        found = read_rows(table, index, [render(plan.declaration, row) for row in rows])
        for row, result in zip(rows, found, strict=True):
            total += 1
            read_back += result is not None
            assert result == row or (result is None and not certain), name
    assert read_back / total > 0.95


def naive_ways(declaration: Declaration, text: str) -> list[Values]:
    """All arguments that print ``text``, by trying every cut: slow, and with nothing in common."""
    steps = make_plan(declaration).steps
    found: list[Values] = []

    def walk(step: int, at: int, values: Values) -> None:
        if step == len(steps):
            if at == len(text) and render(declaration, values) == text and values not in found:
                found.append(dict(values))
            return
        if steps[step].op is Op.LITERAL:
            literal = steps[step].text.decode()
            if text.startswith(literal, at):
                walk(step + 1, at + len(literal), values)
            return
        argument = declaration.arguments[steps[step].argument]
        for end in range(at, len(text) + 1):
            for value in naive_values(argument, steps[step].base, text[at:end]):
                walk(step + 1, end, {**values, argument.name: value})

    walk(0, 0, {})
    return found


def naive_values(argument: Argument, base: int, text: str) -> Iterator[int | str]:
    if argument.kind is Kind.STRING:
        yield text
        return
    try:
        number = int(text.strip(" "), base)
    except ValueError:
        return
    number &= (1 << argument.bits) - 1
    yield (
        number - (1 << argument.bits) if argument.signed and number >> argument.bits - 1 else number
    )


SHORT = [
    'e(char *a, char *b) "%s %s"',
    'e(char *a, int b, char *c) "%s %d%s"',
    'e(int8_t a, char *b) "%x%s"',
    'e(char *a, uint8_t b, uint8_t c) "%s0%02x%x"',
    'e(int a, int b) "%x0%d"',
    'e(int a, char *b, int c) "%3d%s %d"',
    'e(char *a, char *b, char *c) "%s0%s 0%s"',
    'e(int a, uint8_t b) "%d%02x"',
    'e(uint8_t a, char *b) "%#x%s"',
    'e(uint8_t a, uint8_t b) "%#04x %-4x"',
    'e(int8_t a, uint8_t b) "%+dx%#x"',
    'e(uint8_t a, int8_t b) "%#xx%d"',
]


@pytest.mark.parametrize("line", SHORT)
@given(text=st.text("01a -fx+", max_size=7))
@settings(max_examples=150, deadline=None)
def test_exactly_the_unique_ways_are_read(line: str, text: str) -> None:
    declaration = parse_one(line)
    ways = naive_ways(declaration, text)
    assert read(declaration, text) == (ways[0] if len(ways) == 1 else None)


@pytest.mark.parametrize("line", SHORT)
@given(texts=st.lists(st.text("01a -fx\n\0é", max_size=12), max_size=5))
@settings(max_examples=40, deadline=None)
def test_compiled_and_interpreted_agree(line: str, texts: list[str]) -> None:
    declaration = parse_one(line)
    table = EventTable.build(None, {"e": declaration})
    compiled = read_rows(table, 0, texts)
    with running("interpreted"):
        assert read_rows(table, 0, texts) == compiled


@pytest.mark.parametrize(
    "text", [" " * (1 << 20), "a " * (1 << 19), ": " * (1 << 19), "0" * (1 << 20)]
)
@pytest.mark.parametrize("line", ['e(char *a, char *b, char *c) "%s %s %s"', SHORT[3], SHORT[6]])
def test_hostile_rows_end_soon(line: str, text: str) -> None:
    if not parsing.COMPILED:
        text = text[:2000]
    declaration = parse_one(line)
    found = read(declaration, text)
    assert found is None or render(declaration, found) == text
