"""What the metadata of LTTng's traces declares, whole, in packets, cut and hostile."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.ust.ctf_metadata import agrees, context_place, declared_events, metadata_text
from qtctl.model import Kind
from tests.samples import parse_one

NUMBER = "integer {{ size = {}; align = 8; signed = {}; encoding = none; base = {}; }} _{};"
TEXT = """/* CTF 1.8 */
stream {
	id = 0;
	packet.context := struct {
		integer { size = 32; align = 8; signed = 0; encoding = none; base = 10; } _cpu_id;
	};
	event.context := struct {
		integer { size = 8; align = 8; signed = 1; encoding = UTF8; base = 10; } _procname[17];
		integer { size = 32; align = 8; signed = 1; encoding = none; base = 10; } _vpid;
		integer { size = 32; align = 8; signed = 1; encoding = none; base = 10; } _vtid;
	};
};

event {
	name = "qemu:own_text";
	id = 3;
	stream_id = 0;
	loglevel = 13;
	fields := struct {
		integer { size = 64; align = 8; signed = 0; encoding = none; base = 16; } _dev;
		string _name;
		integer { size = 32; align = 8; signed = 1; encoding = none; base = 10; } _ret;
		integer { size = 8; align = 8; signed = 0; encoding = none; base = 16; } _flags;
	};
};

event {
	name = "qemu:own_nothing";
	fields := struct {
	};
};

event {
	name = "lttng_ust_statedump:start";
	fields := struct {
		string _other;
	};
};
"""


def packets(text: bytes, size: int, order: str) -> bytes:
    """Cut a text as LTTng does: each piece behind a head, and padded."""
    out = b""
    for at in range(0, len(text), size):
        piece = text[at : at + size]
        head = struct.pack(
            f"{order}I16sIIIBBBBB",
            *(0x75D11D57, b"u" * 16, 0, 8 * (37 + len(piece)), 8 * (37 + size), 0, 0, 0, 1, 8),
        )
        out += head + piece.ljust(size, b"\0")
    return out


def test_numbers_addresses_and_texts_are_told_apart() -> None:
    found = declared_events(TEXT.encode())
    assert list(found) == ["own_text", "own_nothing"]
    one = found["own_text"]
    assert [(a.name, a.kind, a.bits, a.signed) for a in one.arguments] == [
        ("dev", Kind.POINTER, 64, False),
        ("name", Kind.STRING, 64, False),
        ("ret", Kind.INTEGER, 32, True),
        ("flags", Kind.INTEGER, 8, False),
    ]
    assert one.format == "dev %p name %s ret %ld flags %#lx"
    assert found["own_nothing"].arguments == ()


@pytest.mark.parametrize("order", ["<", ">"])
@given(size=st.integers(1, 3000))
def test_packets_may_cut_it_anywhere(order: str, size: int) -> None:
    assert metadata_text(packets(TEXT.encode(), size, order)) == TEXT.encode()


def test_the_thread_has_its_place() -> None:
    text = TEXT.encode()
    assert context_place(text, b"vtid") == 2
    assert context_place(text, b"vpid") == 1
    assert context_place(text.replace(b"_vtid", b"_other"), b"vtid") == -1
    assert context_place(text + text, b"vtid") == 2
    assert context_place(text + text.replace(b"_vpid", b"_vtid"), b"vtid") == -1
    strange = text.replace(b"integer { size = 8; align = 8; signed = 1", b"variant <x>")
    assert context_place(strange, b"vtid") == -1
    assert context_place(b"", b"vtid") == -1


@pytest.mark.parametrize(
    ("declared", "fits"),
    [
        ('own_text(void *dev, const char *name, int ret, uint8_t flags) "%p %s %d %u"', True),
        ('own_text(void *dev, const char *name, int ret, uint8_t flags, char left) "%p"', True),
        ('own_text(uint64_t dev, const char *name, int ret, bool flags) "%p"', True),
        ('own_text(void *dev, const char *name, int ret) "%p %s %d"', False),
        ('own_text(void *dev, void *name, int ret, uint8_t flags) "%p"', False),
        ('own_text(void *dev, const char *name, unsigned ret, uint8_t flags) "%p"', False),
        ('own_text(void *dev, const char *name, int64_t ret, uint8_t flags) "%p"', False),
    ],
)
def test_declarations_of_another_build_are_noticed(declared: str, fits: bool) -> None:
    assert agrees(parse_one(declared), declared_events(TEXT.encode())["own_text"]) is fits


@given(st.binary(max_size=60), st.integers(0, 5000), st.integers(0, 5000))
def test_hostile_bytes_never_raise(noise: bytes, at: int, cut: int) -> None:
    for data in (TEXT.encode(), packets(TEXT.encode(), 100, "<")):
        text = metadata_text(data[:at] + noise + data[at : at + cut])
        context_place(text, b"vtid")
        for one in declared_events(text).values():
            assert one.name.isidentifier()
