"""USDT probes in an ELF file: the notes that SystemTap's ``sys/sdt.h`` leaves."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qtctl.backends.elf import Elf

PROVIDER = b"qemu"
TEXT_BYTES = 63
"""Longest text that is read of an argument, which may then be cut: BPF's stack holds 512 bytes."""


def probe_notes(elf: Elf) -> Iterator[list[bytes]]:
    """Yield the texts of each note: provider, probe and the places of its arguments.

    Raises:
        ValueError, IndexError, struct.error: the file is damaged.
    """
    section = elf.sections.get(b".note.stapsdt")
    if section is not None:
        yield from split_notes(elf.data(section), elf.order, 3 * elf.bits // 8)


def split_notes(data: bytes, order: str, skip: int) -> Iterator[list[bytes]]:
    """Yield the texts of each note; ``skip`` is how many bytes of addresses stand before them."""
    at = 0
    while at + 12 <= len(data):
        name_size, size, _ = struct.unpack_from(order + "III", data, at)
        text = at + 12 + (name_size + 3 & ~3)
        yield data[text + skip : text + size].split(b"\0")
        at = text + (size + 3 & ~3)
