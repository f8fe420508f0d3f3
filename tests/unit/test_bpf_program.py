"""The program for bpftrace, from declarations and from what a binary's notes say."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from qtctl.backends.dtrace.bpftrace import Traced, _places, probes_of, program_for, traced
from qtctl.backends.dtrace.probes import split_notes
from qtctl.errors import Unsupported
from qtctl.events.declarations import parse_declarations

DECLARED = parse_declarations(
    """
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_texts(const char *a, const char *b, const char *c, const char *d, const char *e) "%s%s%s%s%s"
own_many(int a, int b, int c, int d, int e, int f, int g, const char *h) "%d"
own_nothing(void) ""
"""
).by_name


def test_numbers_come_first_and_texts_last() -> None:
    event = traced(31, "own_text", ("8@%rax", "8@%rbx", "-4@%ecx"), DECLARED["own_text"])
    assert event == Traced(31, "own_text", ("arg0", "arg2", "str(arg1)"), 1)
    nothing = Traced(1, "own_nothing", (), 0)
    pair = Traced(2, "own_pair", ("str(arg0)", "str(arg1)"), 2)
    assert event is not None
    text = program_for([event, nothing, pair], "/proc/1/exe", " |x| ")
    assert text.splitlines()[2:] == [
        'usdt:/proc/1/exe:qemu:own_text { printf("1f %llx %x %llx %llx %s\\n", nsecs, tid, arg0, '
        "arg2, str(arg1)); }",
        'usdt:/proc/1/exe:qemu:own_nothing { printf("1 %llx %x\\n", nsecs, tid); }',
        'usdt:/proc/1/exe:qemu:own_pair { printf("2 %llx %x %s |x| %s\\n", nsecs, tid, str(arg0), '
        "str(arg1)); }",
    ]


@pytest.mark.parametrize(
    ("place", "expression"),
    [
        ("-4@%r14d", 'reg("r14")'),
        ("1@%r11b", 'reg("r11")'),
        ("1@%bl", 'reg("bx")'),
        ("2@%di", 'reg("di")'),
        ("8@(%rsp)", '*(uint64 *)(reg("sp") + 0)'),
        ("-4@-24(%rbp)", '*(uint32 *)(reg("bp") + -24)'),
        ("8@$17", "17"),
        ("-4@$-1", "(uint64)4294967295"),
    ],
)
def test_the_seventh_argument_is_read_where_its_note_says(place: str, expression: str) -> None:
    places = (*["8@%rax"] * 6, place, "8@%rbx")
    event = traced(0, "own_many", places, DECLARED["own_many"])
    assert event is not None
    assert event.expressions == (*(f"arg{i}" for i in range(6)), expression, 'str(reg("bx"))')


@pytest.mark.parametrize("place", ["?", "8@name(%rip)", "4f@%xmm0", "8@(%rax,%rbx,8)", "", "x"])
def test_a_seventh_argument_that_cannot_be_read_is_not_guessed(place: str) -> None:
    places = (*["8@%rax"] * 6, place, "8@%rbx")
    assert traced(0, "own_many", places, DECLARED["own_many"]) is None


def test_arguments_that_do_not_fit_the_declaration_are_not_guessed() -> None:
    eight = ("8@%rax",) * 5
    assert traced(0, "own_text", eight[:2], DECLARED["own_text"]) is None
    assert traced(0, "own_text", eight, DECLARED["own_text"]) is None
    assert traced(0, "own_texts", eight, DECLARED["own_texts"]) is None  # the BPF stack is small
    vcpu = traced(0, "own_text", eight[:4], DECLARED["own_text"])
    assert vcpu == Traced(0, "own_text", ("arg1", "arg3", "str(arg2)"), 1)
    assert traced(0, "own_what", eight[:2], None) == Traced(0, "own_what", ("arg0", "arg1"), 0)


def note(provider: bytes, name: bytes, places: bytes) -> bytes:
    text = bytes(24) + provider + b"\0" + name + b"\0" + places + b"\0"
    padded = text + bytes(-len(text) % 4)
    return struct.pack("<III", 8, len(text), 3) + b"stapsdt\0" + padded


def test_notes_of_other_providers_are_left_out_and_different_places_are_unknown() -> None:
    data = note(b"libc", b"setjmp", b"8@%rdi") + note(b"qemu", b"one", b"-4@$7 8@%rax")
    data += note(b"qemu", b"two", b"8@%rax") + note(b"qemu", b"two", b"8@%rbx")
    data += note(b"qemu", b"none", b"")
    found = {"one": ("-4@$7", "8@%rax"), "two": ("?",), "none": ()}
    assert _places(split_notes(data, "<", 24)) == found
    for cut in range(len(data)):
        assert set(_places(split_notes(data[:cut], "<", 24))) <= {*found, "", *_prefixes(found)}


def _prefixes(names: object) -> set[str]:
    return {str(name)[:n] for name in names for n in range(5)}  # type: ignore[attr-defined]


def test_what_is_no_binary_is_said(tmp_path: Path) -> None:
    assert "qemu" not in probes_of(sys.executable)
    path = tmp_path / "text"
    for content in (b"", b"no binary", b"\x7fELF" + bytes(60)):
        path.write_bytes(content)
        with pytest.raises(Unsupported, match="cannot read the USDT probes"):
            probes_of(path)
    with pytest.raises(Unsupported, match="cannot read the USDT probes"):
        probes_of(tmp_path / "nothing")
