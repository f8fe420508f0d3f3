"""Forms of the simple backend's file: its format version and byte order, by its header.

Source: ``trace/simple.c`` of QEMU: version 0 (QEMU 0.14 to 1.1; its events have 64 bytes and no
process), 2 (1.2 to 2.0), 3 (2.1 to 2.7, with the process) and 4 (since 2.8, with the names of the
events). Before 4 the id of an event is its number in ``trace-events``.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

from qtctl.errors import QtctlError
from qtctl.model import Declaration, Kind

HEADER_BYTES = 24
_MAGIC = 0xF2B177CB0AA429B4
_DROPPED = {0: "8xQQ40x", 2: "8xQ8xQ", 3: "8xQ8xQ", 4: "16xQ8xQ"}
"""By version, the time and count in a record of drops, as :mod:`struct` writes it."""
_OTHER = {"little": "big", "big": "little"}


class Form(NamedTuple):
    """Format version and byte order of a file."""

    version: int = 4
    order: str = sys.byteorder

    @property
    def swapped(self) -> bool:
        """Whether the byte order is not that of this machine."""
        return self.order != sys.byteorder

    @property
    def named(self) -> bool:
        """Whether the file holds the names of its events."""
        return self.version >= 4

    def packed(self, fields: str) -> struct.Struct:
        """Return a struct of ``fields`` in the file's byte order, without padding."""
        return struct.Struct((">" if self.order == "big" else "<") + fields)

    @property
    def header_bytes(self) -> int:
        """Size of the header."""
        return HEADER_BYTES if self.version else 64

    @property
    def dropped(self) -> struct.Struct:
        """The time and count in a record of drops."""
        return self.packed(_DROPPED[self.version])


NATIVE = Form()
"""The form that QEMU writes on this machine since 2.8."""


def is_simple(head: bytes) -> bool:
    """Return whether bytes begin a simple trace file, of any version or byte order."""
    magic = struct.pack("=Q", _MAGIC)
    return head[:8] == b"\xff" * 8 and head[8:16] in (magic, magic[::-1])


def form_of(head: bytes, where: str) -> Form:
    """Return the form of a file by its first 24 bytes.

    Raises:
        QtctlError: it is no simple trace, or of an unknown version.
    """
    if not is_simple(head):
        raise QtctlError(f"{where} is no file of QEMU's simple backend", hint="qtctl replay --help")
    if len(head) < HEADER_BYTES:
        raise QtctlError(f"{where} ends in its header, after {len(head)} bytes")
    swapped = struct.unpack_from("=Q", head, 8)[0] != _MAGIC
    order = _OTHER[sys.byteorder] if swapped else sys.byteorder
    version = int.from_bytes(head[16:24], "big" if order == "big" else "little")
    if version not in _DROPPED:
        raise QtctlError(
            f"{where} has format version {version} of the simple backend; qtctl reads versions "
            f"{', '.join(map(str, _DROPPED))}",
            hint="scripts/simpletrace.py of the QEMU that wrote it",
        )
    return Form(version, order)


def numbered(declared: Mapping[str, Declaration], version: int) -> list[str]:
    """Return the names of the events by their ids, for a file without names.

    Up to 2.0, events that are compiled out have no id. In 0.14 and 0.15 ``disable`` only said that
    an event was off at the start, and all were.
    """
    every = list(declared)
    enabled = [name for name in every if not declared[name].disabled]
    return every if version > 2 or not enabled else enabled


def as_written(declared: Mapping[str, Declaration], version: int) -> Mapping[str, Declaration]:
    """Return declarations as a file holds the arguments: version 0 has the addresses of texts."""
    if version:
        return declared
    return {
        name: one._replace(
            arguments=tuple(
                argument._replace(kind=Kind.POINTER) if argument.kind is Kind.STRING else argument
                for argument in one.arguments
            )
        )
        for name, one in declared.items()
    }
