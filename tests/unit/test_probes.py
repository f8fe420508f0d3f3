"""USDT probes: the places of arguments, the notes of a binary, definitions for the kernel."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from qtctl.backends.dtrace.operands import Operand, parse_places
from qtctl.backends.dtrace.probes import UsdtProbe, probes_in, split_notes
from qtctl.backends.dtrace.uprobes import Traced, probes_of, traced
from qtctl.backends.elf import Elf
from qtctl.errors import Unsupported
from qtctl.events.declarations import parse_declarations

DECLARED = parse_declarations(
    'own_text(void *dev, const char *name, int ret) "%p %s %d"\nown_wide(int64_t a) "%d"\n'
).by_name


@pytest.mark.parametrize(
    ("place", "fetch", "bits"),
    [
        ("8@%rdi", "%di", 64),
        ("-4@%edi", "%di", 32),
        ("1@%sil", "%si", 8),
        ("2@%r10w", "%r10", 16),
        ("4@%r8d", "%r8", 32),
        ("1@%bpl", "%bp", 8),
        ("8@-24(%rbp)", "-24(%bp)", 64),
        ("4@(%rsp)", "+0(%sp)", 32),
        ("-4@16(%rsp)", "+16(%sp)", 32),
        ("4@$5", "\\5", 32),
        ("-4@$-5", "\\-5", 32),
        ("8@x0", "%x0", 64),
        ("4@w19", "%x19", 32),
        ("8@x30", "%lr", 64),
        ("8@[sp, 24]", "+24(%sp)", 64),
        ("-4@[sp, #-16]", "-16(%sp)", 32),
        ("4@[x21]", "+0(%x21)", 32),
        ("4@wzr", "\\0", 32),
        ("-4@7", "\\7", 32),
    ],
)
def test_places_are_what_the_kernel_fetches(place: str, fetch: str, bits: int) -> None:
    assert parse_places(place) == [Operand(fetch, bits)]


@pytest.mark.parametrize(
    "place", ["8@name(%rip)", "4f@%xmm0", "8@(%rax,%rbx,8)", "1@%ah", "8@[x0, x1]", "8@%xmm0", "8@"]
)
def test_a_place_that_cannot_be_fetched_is_not_guessed(place: str) -> None:
    assert parse_places(f"8@%rax {place} 8@%rbx") == [Operand("%ax", 64), None, Operand("%bx", 64)]
    probe = UsdtProbe("own_text", f"8@%rax {place} 8@%rbx", 1, 0)
    assert traced(0, probe, DECLARED["own_text"]) is None


def test_places_with_blanks_are_told_apart() -> None:
    assert parse_places("") == []
    found = parse_places("8@x0 8@[sp, 24] -4@[sp, 8] 4@w1")
    assert found is not None
    assert [place.fetch for place in found if place] == ["%x0", "+24(%sp)", "+8(%sp)", "%x1"]
    for bad in ("x", "8@%rax x", "3@%rax", "8%rax"):
        assert traced(0, UsdtProbe("own_wide", bad, 1, 0), DECLARED["own_wide"]) is None


def test_numbers_come_first_and_texts_last() -> None:
    one = traced(
        3, UsdtProbe("own_text", "8@%rdi 8@8(%rsp) -4@%edx", 0x1195, 0x3048), DECLARED["own_text"]
    )
    assert one == Traced(3, 0x1195, 0x3048, ("%di", "%dx"), (64, 64), ("+8(%sp)",))
    assert one.definition("g_1", "/proc/7/exe") == (
        "p:g_1/a88t1_g_1 /proc/7/exe:0x1195(0x3048) a0=%di:u64 a1=%dx:u64 p0=+8(%sp):u64 "
        "s0=+0(+8(%sp)):ustring"
    )
    assert [name for name, _ in one.fields()] == ["a0", "a1", "p0", "s0"]
    null = traced(3, UsdtProbe("own_text", "8@%rdi 8@$0 -4@%edx", 1, 0), DECLARED["own_text"])
    assert null is not None
    assert null.definition("g", "/x").startswith("p:g/a88t1_g /x:0x1 a0=%di:u64")
    assert null.definition("g", "/x").endswith("p0=\\0:u64 s0=@0x0:ustring")


def test_arguments_that_do_not_fit_the_declaration_are_not_guessed() -> None:
    declared = DECLARED["own_text"]
    assert traced(0, UsdtProbe("own_text", "8@%rax 8@%rax", 1, 0), declared) is None
    assert traced(0, UsdtProbe("own_text", "8@%rax " * 5, 1, 0), declared) is None
    assert traced(0, UsdtProbe("own_text", "8@%rax 4@%eax 4@%eax", 1, 0), declared) is None
    assert traced(0, UsdtProbe("own_wide", "4@%eax", 1, 0), DECLARED["own_wide"]) is None
    vcpu = traced(0, UsdtProbe("own_text", "8@%rbx 8@%rax 8@%rcx 4@%edx", 1, 0), declared)
    assert vcpu == Traced(0, 1, 0, ("%ax", "%dx"), (64, 64), ("%cx",))
    what = traced(0, UsdtProbe("own_what", "8@%rax 4@%ebx", 1, 0), None)
    assert what == Traced(0, 1, 0, ("%ax", "%bx"), (64, 32), ())


def note(provider: bytes, name: bytes, places: bytes, *addresses: int) -> bytes:
    head = struct.pack("<QQQ", *(addresses or (0, 0, 0)))
    text = head + provider + b"\0" + name + b"\0" + places + b"\0"
    padded = text + bytes(-len(text) % 4)
    return struct.pack("<III", 8, len(text), 3) + b"stapsdt\0" + padded


def elf(notes: bytes, base: int = 0x2000) -> bytes:
    """Return an ELF file with code at 0x1000, a base, semaphores at 0x5000, and notes."""
    names = b"\0.text\0.stapsdt.base\0.probes\0.note.stapsdt\0.tbss\0"
    place = {
        name: names.index(name) for name in (b".text", b".stapsdt", b".probes", b".note", b".tb")
    }
    at = 64 + 7 * 64
    rows = [
        (0, 0, 0, 0, 0, 0),
        (place[b".tb"], 8, 0, 0x1000, 0, 64),  # lies nowhere in the file
        (place[b".text"], 1, 0, 0x1000, 0x100, 64),
        (place[b".stapsdt"], 1, 0, base, 0x200, 1),
        (place[b".probes"], 1, 0, 0x5000, 0x300, 64),
        (place[b".note"], 7, 0, 0, at + len(names), len(notes)),
        (0, 3, 0, 0, at, len(names)),
    ]
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, len(rows), 6)
    table = b"".join(struct.pack("<IIQQQQIIQQ", *row, 0, 0, 0, 0) for row in rows)
    return head + table + names + notes


def test_a_probe_is_found_in_the_file() -> None:
    notes = note(b"libc", b"setjmp", b"8@%rdi", 1, 0x2000, 0)
    notes += note(b"qemu", b"one", b"8@%rax", 0x1010, 0x2000, 0x5004)
    notes += note(b"qemu", b"none", b"", 0x1020, 0x2000, 0)
    found = [UsdtProbe("one", "8@%rax", 0x110, 0x304), UsdtProbe("none", "", 0x120, 0)]
    assert probes_in(Elf(elf(notes))) == found
    # The same notes in a file whose sections were moved by 16 bytes since.
    moved = [UsdtProbe("one", "8@%rax", 0x120, 0x314), UsdtProbe("none", "", 0x130, 0)]
    assert probes_in(Elf(elf(notes, 0x2010))) == moved
    with pytest.raises(ValueError, match="no section is at"):
        probes_in(Elf(elf(note(b"qemu", b"one", b"", 0x9000, 0x2000, 0))))


def test_notes_that_are_cut_are_never_misread() -> None:
    data = note(b"libc", b"setjmp", b"8@%rdi") + note(b"qemu", b"one", b"-4@$7 8@%rax")
    whole = [texts[1] for _, texts in split_notes(data, "<", 24)]
    assert whole == [b"setjmp", b"one"]
    for cut in range(len(data)):
        for _, texts in split_notes(data[:cut], "<", 24):
            assert all(any(name.startswith(one) for name in whole) for one in texts[1:2])


def test_what_is_no_binary_is_said(tmp_path: Path) -> None:
    assert probes_of(sys.executable) == []
    path = tmp_path / "text"
    for content in (b"", b"no binary", b"\x7fELF" + bytes(60)):
        path.write_bytes(content)
        with pytest.raises(Unsupported, match="cannot read the USDT probes"):
            probes_of(path)
    with pytest.raises(Unsupported, match="cannot read the USDT probes"):
        probes_of(tmp_path / "nothing")
