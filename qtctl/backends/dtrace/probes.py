"""USDT probes in an ELF file: the notes that SystemTap's ``sys/sdt.h`` leaves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from qtctl.backends.elf import Elf

PROVIDER = b"qemu"


class UsdtProbe(NamedTuple):
    """A place in the code where an event happens: its name, and the words for its arguments.

    ``offset`` is that of the instruction in the file, ``semaphore`` that of the number of tracers;
    0 for a probe without one.
    """

    name: str
    places: str
    offset: int
    semaphore: int


def probe_notes(elf: Elf) -> Iterator[list[bytes]]:
    """Yield the texts of each note: provider, probe and the places of its arguments.

    Raises:
        ValueError, IndexError, struct.error: the file is damaged.
    """
    return (texts for _, texts in _notes(elf))


def probes_in(elf: Elf) -> list[UsdtProbe]:
    """Return the probes of provider ``qemu``.

    Raises:
        ValueError, IndexError, struct.error: the file is damaged.
    """
    address = struct.Struct(elf.order + ("QQQ" if elf.bits == 64 else "III"))
    base = elf.sections.get(b".stapsdt.base")
    found = []
    for head, texts in _notes(elf):
        if len(texts) < 3 or texts[0] != PROVIDER:
            continue
        place, noted, semaphore = address.unpack(head)
        # What moved the sections after the build (prelink) moved this one as well.
        moved = base.address - noted if base is not None and noted else 0
        found.append(
            UsdtProbe(
                texts[1].decode("ascii"),
                texts[2].decode("ascii"),
                elf.offset_of(place + moved),
                elf.offset_of(semaphore + moved) if semaphore else 0,
            )
        )
    return found


def _notes(elf: Elf) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the addresses and the texts of each note."""
    section = elf.sections.get(b".note.stapsdt")
    if section is not None:
        yield from split_notes(elf.data(section), elf.order, 3 * elf.bits // 8)


def split_notes(data: bytes, order: str, skip: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the ``skip`` bytes of addresses of each note, and the texts behind them."""
    at = 0
    while at + 12 <= len(data):
        name_size, size, _ = struct.unpack_from(order + "III", data, at)
        text = at + 12 + (name_size + 3 & ~3)
        yield data[text : text + skip], data[text + skip : text + size].split(b"\0")
        at = text + (size + 3 & ~3)
