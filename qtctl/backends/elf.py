"""ELF files: their sections, of 32 or 64 bits and of either byte order.

Layout: ``elf.h``. A QEMU has 100 MB, so nothing is copied but what is asked for.
"""

from __future__ import annotations

import struct
from mmap import mmap
from typing import NamedTuple

_MAGIC = b"\x7fELF"
_DYNAMIC = 6
_EMPTY = 8
_NEEDED = 1


class Section(NamedTuple):
    """A section: the number of its type, where its content lies, and the section it refers to.

    ``address`` is where it lies in memory, 0 for one that does not.
    """

    kind: int
    address: int
    offset: int
    size: int
    link: int


class Elf:
    """The sections of an ELF file by name; a file without section headers has none.

    ``order`` is the byte order as ``struct`` spells it, ``bits`` is 32 or 64.

    Raises:
        ValueError: it is no ELF file, or its headers point outside it.
    """

    def __init__(self, image: bytes | mmap) -> None:
        kind = image[:6]
        if len(kind) < 6 or kind[:4] != _MAGIC or not {*kind[4:]} <= {1, 2}:
            raise ValueError("not an ELF file")
        self._image = image
        self.bits = 32 * kind[4]
        self.order = "<>"[kind[5] - 1]
        wide = self.bits == 64
        try:
            at, size, count, names = struct.unpack_from(
                self.order + ("40xQ10xHHH" if wide else "32xI10xHHH"), image
            )
            header = struct.Struct(self.order + ("IIQQQQI" if wide else "IIIIIII"))
            rows = [header.unpack_from(image, at + size * index) for index in range(count)]
            self._all = [Section(row[1], *row[3:]) for row in rows]
            self.sections: dict[bytes, Section] = {}
            text = self.data(self._all[names]) if rows else b""
            for row, section in zip(rows, self._all, strict=True):
                name = text[row[0] : text.index(b"\0", row[0])]
                self.sections.setdefault(name, section)
        except (struct.error, IndexError, OverflowError) as error:
            raise ValueError(f"an ELF file that is damaged: {error}") from error

    def data(self, section: Section) -> bytes:
        """Return the content of a section.

        Raises:
            ValueError: it is not within the file.
        """
        end = section.offset + section.size
        if end > len(self._image):
            raise ValueError("a section is not within the file")
        return self._image[section.offset : end]

    def linked(self, section: Section) -> bytes:
        """Return the content of the section that ``section`` refers to: the texts it names.

        Raises:
            IndexError: there is no such section.
            ValueError: it is not within the file.
        """
        return self.data(self._all[section.link])

    def offset_of(self, address: int) -> int:
        """Return where in the file the byte lies that is at an address in memory.

        Raises:
            ValueError: no section is there.
        """
        for section in self._all:
            inside = section.kind != _EMPTY and section.address > 0
            if inside and 0 <= address - section.address < section.size:
                return section.offset + address - section.address
        raise ValueError(f"no section is at {address:#x}")

    def needed(self) -> list[bytes]:
        """Return the names of the libraries it is linked with.

        Raises:
            IndexError, ValueError: it is damaged.
        """
        found = []
        entry = struct.Struct(self.order + ("qQ" if self.bits == 64 else "iI"))
        for section in self._all:
            if section.kind == _DYNAMIC:
                data, texts = self.data(section), self.linked(section)
                whole = len(data) - len(data) % entry.size
                found += [
                    texts[value : texts.index(b"\0", value)]
                    for tag, value in entry.iter_unpack(data[:whole])
                    if tag == _NEEDED
                ]
        return found
