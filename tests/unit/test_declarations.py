"""Declaration files of three QEMUs, and unusual forms of a line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.errors import UsageError
from qtctl.events.declarations import declaration_of, parse_declarations, parse_line
from qtctl.model import Kind
from qtctl.records.printf import make_plan
from tests.samples import VERSIONS, declarations, declarations_text, parse_one

COUNTS = {"7.2": 5062, "10.2": 6011, "11.1": 6335}


@pytest.mark.parametrize("version", VERSIONS)
def test_whole_file_parses(version: str) -> None:
    parsed = declarations(version)
    assert parsed.errors == ()
    assert len(parsed.by_name) == COUNTS[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_line_numbers_point_at_the_line(version: str) -> None:
    lines = declarations_text(version).split("\n")
    for name, declaration in declarations(version).by_name.items():
        assert f"{name}(" in lines[declaration.line - 1]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_event_alone_is_the_same(version: str) -> None:
    text, parsed = declarations_text(version), declarations(version).by_name
    for name in list(parsed)[::97]:
        assert declaration_of(text, name) == parsed[name]
    assert declaration_of(text, "no_such_event") is None
    assert declaration_of(text, "virtio_blk_handle") is None


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return the least processor time of three calls."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return min(taken)


def test_whole_file_is_quick() -> None:
    """The peer splits the same text into words: 1.7 times its time where this was written."""
    text = declarations_text("11.1")
    peer = cpu_seconds(lambda: re.findall(r"\w+|\W", text))
    assert cpu_seconds(lambda: parse_declarations(text)) < 8 * peer


@pytest.mark.parametrize(
    ("ctype", "kind", "bits", "signed"),
    [
        ("const char *", Kind.STRING, 64, False),
        ("char *", Kind.STRING, 64, False),
        ("const char*", Kind.STRING, 64, False),
        ("char **", Kind.POINTER, 64, False),
        ("unsigned char *", Kind.POINTER, 64, False),
        ("const void *", Kind.POINTER, 64, False),
        ("struct iovec *", Kind.POINTER, 64, False),
        ("uint64_t *", Kind.POINTER, 64, False),
        ("bool ", Kind.INTEGER, 8, False),
        ("char ", Kind.INTEGER, 8, True),
        ("unsigned char ", Kind.INTEGER, 8, False),
        ("const uint8_t ", Kind.INTEGER, 8, False),
        ("unsigned ", Kind.INTEGER, 32, False),
        ("unsigned int ", Kind.INTEGER, 32, False),
        ("int ", Kind.INTEGER, 32, True),
        ("short ", Kind.INTEGER, 16, True),
        ("unsigned short ", Kind.INTEGER, 16, False),
        ("long ", Kind.INTEGER, 64, True),
        ("long unsigned int ", Kind.INTEGER, 64, False),
        ("unsigned long long ", Kind.INTEGER, 64, False),
        ("size_t ", Kind.INTEGER, 64, False),
        ("ssize_t ", Kind.INTEGER, 64, True),
        ("uintptr_t ", Kind.INTEGER, 64, False),
        ("intptr_t ", Kind.INTEGER, 64, True),
        ("hwaddr ", Kind.INTEGER, 64, False),
        ("ram_addr_t ", Kind.INTEGER, 64, False),
        ("off_t ", Kind.INTEGER, 64, True),
        ("mystery_t ", Kind.INTEGER, 64, True),
    ],
)
def test_types(ctype: str, kind: Kind, bits: int, signed: bool) -> None:
    (argument,) = parse_one(f'e({ctype}x) "%d"').arguments
    assert (argument.name, argument.kind, argument.bits, argument.signed) == (
        "x", kind, bits, signed,
    )  # fmt: skip


def test_unknown_type_takes_its_sign_from_the_conversion() -> None:
    declaration = parse_one('e(int w, odd_t a, odd_t b) "%*d%% %u" ')
    assert [argument.signed for argument in declaration.arguments] == [True, True, False]


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        ("", ""),
        ('"plain %d"', "plain %d"),
        ('"a 0x%" PRIx64 " b"', "a 0x%lx b"),
        ('"a 0x%"PRIx64""', "a 0x%lx"),
        ('"%"PRIu32" %" PRId64', "%u %ld"),
        ('"%" PRIxPTR', "%lx"),
        (r'"a\tb\n\"c\" \\ \x41\101"', 'a\tb\n"c" \\ AA'),
        (r'"\xff"', "\udcff"),
        ('"0x%" HWADDR_PRIx " %" VADDR_PRIx', "0x%lx %lx"),
        ('"0x" TARGET_FMT_plx " %u"', "0x%016lx %u"),
        ('"100%% 0x" MINE " %u"', "100%% 0x%<MINE> %u"),
        ('"0x%04" MINE', "0x%04<MINE>"),
    ],
)
def test_formats(tail: str, text: str) -> None:
    assert parse_one(f"e(void) {tail}").format == text


def test_properties() -> None:
    assert parse_one('disable e(int a) "%d"').disabled
    assert parse_one("e()").arguments == ()
    vcpu = parse_one('vcpu e(int a) "a=%d"')
    assert [argument.name for argument in vcpu.arguments] == ["__cpu", "a"]
    assert vcpu.format == "cpu=%p a=%d"


def test_tcg_makes_two_events_of_a_line() -> None:
    """As tracetool does up to QEMU 6.x: values of TCG are not known while code is translated."""
    line = (
        "vcpu tcg access(TCGv addr, TCGv_ptr box, TCGv_i32 n, int16_t info) "
        r'"info=%d", "addr=0x%016"PRIx64" box=%p n=%u info=%d"'
    )
    translated, executed = parse_line(line, number=7)
    assert [(one.name, one.ctype) for one in translated.arguments] == [
        ("__cpu", "void *"), ("info", "int16_t"),
    ]  # fmt: skip
    assert (translated.name, translated.format) == ("access_trans", "cpu=%p info=%d")
    assert [(one.name, one.ctype, one.bits) for one in executed.arguments] == [
        ("__cpu", "void *", 64), ("addr", "uint64_t", 64), ("box", "void *", 64),
        ("n", "uint32_t", 32), ("info", "int16_t", 16),
    ]  # fmt: skip
    assert executed.name == "access_exec"
    assert executed.format == "cpu=%p addr=0x%016lx box=%p n=%u info=%d"
    text = f'access_executes(void) ""\n{line}\n'
    assert list(parse_declarations(text).by_name) == [
        "access_executes", "access_trans", "access_exec",
    ]  # fmt: skip
    assert declaration_of(text, "access_exec") == executed._replace(line=2)
    assert declaration_of(text, "access") is None
    assert declaration_of("own_exec(void)", "own_exec") == parse_one("own_exec()")._replace(line=1)


_PIECES = (
    "vcpu ", "tcg ", "disable ", "e", "(", ")", "int a", "TCGv b", "char *", "void", ", ", "\"%d\"",
    '"%#x %s"', "PRIx64", "MINE", '"', "\\", "\n", "#", " ",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join) | st.text())
def test_any_text_is_declarations_and_lines_that_are_none(text: str) -> None:
    parsed = parse_declarations(text)
    for name, declaration in parsed.by_name.items():
        assert declaration.name == name
        plan = make_plan(declaration)
        assert plan.reason or plan.steps or not declaration.format
    lines = text.split("\n")
    assert all(lines[number - 1] == line for number, line, _ in parsed.errors)


def test_bad_lines_are_collected() -> None:
    parsed = parse_declarations(
        '# comment\n\nnot a declaration\ne(int a) "%d"\r\nf(int) "%d"\ng(int a) "%" ;\n  # c\n'
    )
    assert list(parsed.by_name) == ["e"]
    assert [(line, text) for line, text, _ in parsed.errors] == [
        (3, "not a declaration"),
        (5, 'f(int) "%d"'),
        (6, 'g(int a) "%" ;'),
    ]
    with pytest.raises(UsageError):
        parse_one("nothing")


def test_an_event_that_is_also_disabled_keeps_the_live_one() -> None:
    text = 'disable e(int a) "%d"\ne(int b) "%d"\n'
    assert parse_declarations(text).by_name["e"].arguments[0].name == "b"
    found = declaration_of(text, "e")
    assert found is not None
    assert found.arguments[0].name == "b"
