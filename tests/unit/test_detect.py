"""Which backends a QEMU has: the table of signs, and signs read from small hand-made binaries."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends import detect, tracers
from qtctl.backends.base import Process
from qtctl.backends.detect import (
    Signs,
    backends_from,
    no_signs,
    questions,
    signs_in,
    signs_of_process,
    undecided,
    with_answers,
)
from qtctl.backends.elf import Elf
from qtctl.backends.table import TABLE
from qtctl.model import Backend, Guest

SIX = tuple(backend for backend in TABLE if backend != Backend.NOP)
HELP_LOG = "Log items (comma separated):\nint  show interrupts\n"
NO_COMMAND = "unknown command: 'trace-file'\r\n"


def test_all_none_and_nothing_known() -> None:
    assert tuple(no_signs()) == SIX
    assert backends_from(dict.fromkeys(SIX, False)) == (Backend.NOP,)
    assert undecided(dict.fromkeys(SIX, False)) == ()
    assert backends_from(dict.fromkeys(SIX, True)) == SIX
    assert backends_from(no_signs()) == ()
    assert undecided(no_signs()) == SIX


@pytest.mark.parametrize(
    ("before", "answers", "found"),
    [
        (None, {Backend.LOG: HELP_LOG + "trace:PATTERN   enable trace events\n"}, True),
        (True, {Backend.LOG: HELP_LOG}, False),
        (None, {Backend.SIMPLE: 'Trace file "trace-1" off.\n'}, True),
        (False, {Backend.SIMPLE: ""}, True),
        (True, {Backend.SIMPLE: NO_COMMAND}, False),
    ],
)
def test_what_the_monitor_says_wins(
    before: bool | None, answers: dict[Backend, str], found: bool
) -> None:
    signs = with_answers(dict.fromkeys(SIX, before), answers)
    [asked] = answers
    assert signs[asked] is found
    assert all(signs[other] is before for other in SIX if other != asked)


def test_the_monitor_is_asked_for_two_backends() -> None:
    assert questions() == {Backend.LOG: "help log", Backend.SIMPLE: "trace-file"}


def test_ftrace_needs_its_open_file_but_its_absence_needs_only_the_binary() -> None:
    part = TABLE[Backend.FTRACE].signs
    assert part is not None
    built_in, links = b"..trace_marker..", ["/dev/null", "/sys/kernel/tracing/trace_marker"]
    assert part.in_process(Process(image=built_in)) is None
    assert part.in_process(Process(image=b"...")) is False
    assert part.in_process(Process(image=built_in, links=links)) is True
    assert part.in_process(Process(image=built_in, links=links[:1])) is False
    assert part.in_process(Process(links=links)) is True


@given(st.fixed_dictionaries({backend: st.none() | st.booleans() for backend in SIX}))
def test_known_undecided_and_nop_never_mix(signs: Signs) -> None:
    found, open_questions = set(backends_from(signs)), set(undecided(signs))
    assert not found & open_questions
    assert (Backend.NOP in found) == (found <= {Backend.NOP} and not open_questions)


EVENT_TEXT = b"object_class_dynamic_cast_assert type=%s->%s (%s:%d:%s)"
LOG_TEXT = b"\0" + EVENT_TEXT + b"\n\0%d@%zu.%06zu:" + EVENT_TEXT + b"\n\0"


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def write_elf(
    *,
    needed: str = "libc.so.6",
    symbol: str = "puts",
    provider: str | None = None,
    order: str = "<",
    text: bytes = b"",
) -> bytes:
    """Return a 64-bit ELF file with one needed library, one dynamic symbol and one SDT probe."""
    strings = b"\0" + needed.encode() + b"\0" + symbol.encode() + b"\0"
    symbols = bytes(24) + struct.pack(order + "IBBHQQ", len(needed) + 2, 0x12, 0, 0, 0, 0)
    dynamic = struct.pack(order + "QQQQ", 1, 1, 0, 0)
    probe = bytes(24) + f"{provider}\0probe\0args\0".encode()
    other = bytes(24) + b"libc\0probe\0\0"
    notes = b"".join(
        struct.pack(order + "III", 8, len(desc), 3) + b"stapsdt\0" + desc + bytes(-len(desc) % 4)
        for desc in (other, probe)
    )
    names = b"\0.dynstr\0.dynsym\0.dynamic\0.note.stapsdt\0.shstrtab\0"
    parts = [  # name, type, link, entry size, data
        (b".dynstr", 3, 0, 0, strings),
        (b".dynsym", 11, 1, 24, symbols),
        (b".dynamic", 6, 1, 16, dynamic),
        (b".note.stapsdt", 7, 0, 0, notes),
        (b".shstrtab", 3, 0, 0, names),
    ]
    if provider is None:
        del parts[3]
    body, headers, start = b"", bytes(64), 64 + 56
    for name, kind, link, size, data in parts:
        place = (start + len(body), len(data), link, 0, 8, size)
        headers += struct.pack(order + "IIQQQQIIQQ", names.index(name), kind, 0, 0, *place)
        body += _padded(data)
    at = start + len(_padded(strings)) + len(_padded(symbols))
    segment = struct.pack(order + "IIQQQQQQ", 2, 4, at, 0, 0, len(dynamic), len(dynamic), 8)
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01" + bytes(9)
    counts = (64, 56, 1, 64, len(parts) + 1, len(parts))
    head = ident + struct.pack(order + "HHIQQQI6H", 3, 62, 1, 0, 64, start + len(body), 0, *counts)
    return head + segment + body + headers + text


def signs_of(data: bytes, folder: Path) -> Signs:
    path = folder / "binary"
    path.write_bytes(data)
    return signs_in(path, None, SIX)


@pytest.mark.parametrize("order", ["<", ">"])
def test_signs_in_a_binary(tmp_path: Path, order: str) -> None:
    assert signs_of(write_elf(order=order), tmp_path) == dict.fromkeys(SIX, False)
    ust = write_elf(needed="liblttng-ust.so.1", order=order)
    assert signs_of(ust, tmp_path)[Backend.UST]
    assert signs_of(write_elf(provider="qemu", order=order), tmp_path)[Backend.DTRACE]


@pytest.mark.parametrize(
    "data",
    [
        write_elf(symbol="openlog"),  # Debian's Python, say
        write_elf(symbol="openlog", text=LOG_TEXT),
        write_elf(text=b"\0object_class_dynamic_cast_assert\0" + LOG_TEXT),
        write_elf(provider="qemu2"),
        write_elf(needed="liblttng-ctl.so.0"),
    ],
)
def test_signs_that_only_look_alike(tmp_path: Path, data: bytes) -> None:
    assert backends_from(signs_of(data, tmp_path)) == (Backend.NOP,) or undecided(
        signs_of(data, tmp_path)
    ) == (Backend.FTRACE,)


TEXTS = b'trace:PATTERN \0Trace file "%s" %s.\n\0%s/trace_marker\0'


def test_texts_in_a_binary(tmp_path: Path) -> None:
    signs = signs_of(write_elf(text=TEXTS), tmp_path)
    assert backends_from(signs) == (Backend.LOG, Backend.SIMPLE)
    assert undecided(signs) == (Backend.FTRACE,)
    for others in (b"", LOG_TEXT):
        syslog = write_elf(text=others + EVENT_TEXT + b"\0" + LOG_TEXT)
        assert signs_of(syslog, tmp_path)[Backend.SYSLOG]


def test_a_binary_cut_or_garbled_anywhere_raises_nothing(tmp_path: Path) -> None:
    whole = write_elf(provider="qemu")
    for at in range(1, len(whole), 3):
        signs_of(whole[:at], tmp_path)
        signs_of(whole[:at] + b"\xff" * 8 + whole[at + 8 :], tmp_path)
    assert undecided(signs_of(b"#!/bin/sh\n", tmp_path)) == SIX[4:]


@pytest.mark.parametrize("provider", ["qemu", "python", None])
def test_tracers_in_a_process(
    tmp_path: Path, provider: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_elf(provider=provider)
    monkeypatch.setattr(detect, "Path", lambda path: tmp_path / path.rpartition("/")[2])
    (tmp_path / "exe").write_bytes(whole)
    assert tracers.may_have_tracers(1) == (provider == "qemu")
    for at in range(1, len(whole), 3):
        (tmp_path / "exe").write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
        assert tracers.may_have_tracers(1) in (False, provider == "qemu")
        (tmp_path / "exe").write_bytes(whole[:at])
        assert tracers.may_have_tracers(1) in (False, provider == "qemu")
        assert at > len(whole) // 2 or not tracers.may_have_tracers(1)


def guest(pid: int) -> Guest:
    return Guest(pid=pid, started=0, exe="", argv=())


def test_a_process_with_trace_marker_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "trace_marker"
    marker.touch()
    assert not signs_of_process(guest(os.getpid()))[Backend.FTRACE]
    with marker.open("wb"), monkeypatch.context() as patch:
        patch.setattr(detect, "Path", lambda path: tmp_path / "no such binary")
        assert signs_of_process(guest(os.getpid()))[Backend.FTRACE] is True


def test_a_process_that_may_not_be_read_leaves_all_open(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signs_of_process(guest(4194304)) == no_signs()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert signs_of_process(guest(os.getpid())) == no_signs()


def test_a_binary_of_32_bits(tmp_path: Path) -> None:
    strings = b"\0.dynamic\0liblttng-ust.so.1\0"
    dynamic = struct.pack("<iIiI", 1, strings.index(b"liblttng"), 0, 0)
    parts = [(0, 0, b""), (1, 6, dynamic), (0, 3, strings)]
    body, headers = b"", b""
    for name, kind, data in parts:
        headers += struct.pack("<10I", name, kind, 0, 0, 52 + len(body), len(data), 2, 0, 4, 0)
        body += data
    head = struct.pack("<HHIIIII6H", 3, 3, 1, 0, 0, 52 + len(body), 0, 52, 0, 0, 40, 3, 2)
    signs = signs_of(b"\x7fELF\1\1\1" + bytes(9) + head + body + headers, tmp_path)
    assert signs[Backend.UST] is True
    assert signs[Backend.DTRACE] is False


def test_the_libraries_of_a_real_binary() -> None:
    image = Path(sys.executable).resolve().read_bytes()
    needed = Elf(image).needed()
    assert any(name.startswith(b"libc.so") for name in needed), needed
