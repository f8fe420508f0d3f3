"""Names and fields of QEMU's events in the metadata of a CTF 1.8 trace.

The language is TSDL (The Common Trace Format 1.8.3, sections 7 and C), as LTTng-UST 2.13 prints it,
in packets (section 7.1) or as plain text. QEMU's generator (``scripts/tracetool`` of 7.2 to 11.1,
``format/ust_events_h.py``) writes addresses in base 16, and leaves arguments out whose C type it
does not know.
"""

from __future__ import annotations

import re
import struct

from qtctl.model import Argument, Declaration, Kind

_MAGICS = {struct.pack(order + "I", 0x75D11D57): order for order in "<>"}
_PACKET = "I16sIII5B"
_EVENT = re.compile(rb'event \{\s*name = "qemu:(\w+)";(.*?)\n\};', re.DOTALL)
_FIELDS = re.compile(rb"fields := struct \{(.*)\}", re.DOTALL)
_FIELD = re.compile(rb"\s(?:integer \{(?P<number>[^}]*)\}|string(?: \{[^}]*\})?) _(?P<name>\w+);")
_CONTEXTS = re.compile(rb"event\.context := struct \{")
_CONTEXT = re.compile(
    rb"\s*(?:(?:integer|floating_point) \{[^}]*\}|string(?: \{[^}]*\})?) _(\w+)(?:\[\d+\])?;"
)
_SETTING = re.compile(rb"(\w+) = (\w+);")


def metadata_text(data: bytes) -> bytes:
    """Return the text of a ``metadata`` file: that in its packets, or all of a plain one.

    Of a file that is cut off or damaged, the text before that.
    """
    parts = []
    at = 0
    while (order := _MAGICS.get(data[at : at + 4])) is not None:
        size = struct.calcsize(f"={_PACKET}")
        if len(data) - at < size:
            break
        _, _, _, content, packet, *_ = struct.unpack_from(f"{order}{_PACKET}", data, at)
        parts.append(data[at + size : at + content // 8])
        if packet // 8 <= size:
            break
        at += packet // 8
    return b"".join(parts) if at or parts else data


def declared_events(text: bytes) -> dict[str, Declaration]:
    """Return the events of provider ``qemu``, with the fields that are numbers or texts."""
    found = {}
    for event in _EVENT.finditer(text):
        fields = _FIELDS.search(event[2])
        arguments = [_argument(field) for field in _FIELD.finditer(fields[1] if fields else b"")]
        name = event[1].decode()
        form = " ".join(f"{one.name} {conversion}" for one, conversion in arguments)
        found[name] = Declaration(name, tuple(one for one, _ in arguments), form)
    return found


def _argument(field: re.Match[bytes]) -> tuple[Argument, str]:
    """Return an argument and how it is printed; 64 bits in hex are taken for an address."""
    name = field["name"].decode()
    if field["number"] is None:
        return Argument(name, "const char *", Kind.STRING, 64, False), "%s"
    settings = dict(_SETTING.findall(field["number"]))
    bits, signed = int(settings.get(b"size", b"64")), settings.get(b"signed") in (b"1", b"true")
    in_hex = settings.get(b"base") in (b"16", b"hex")
    if in_hex and bits == 64:
        return Argument(name, "void *", Kind.POINTER, 64, False), "%p"
    ctype = f"{'' if signed else 'u'}int{bits}_t"
    conversion = "%#lx" if in_hex else "%ld" if signed else "%lu"
    return Argument(name, ctype, Kind.INTEGER, bits, signed), conversion


def context_place(text: bytes, name: bytes) -> int:
    """Return which of an event's contexts, from 0, is ``name``; -1 if none in all streams.

    ``vtid`` is the thread id, ``vpid`` the process id.
    """
    places = set()
    for found in _CONTEXTS.finditer(text):
        names, at = [], found.end()
        while (context := _CONTEXT.match(text, at)) is not None:
            names.append(context[1])
            at = context.end()
        places.add(names.index(name) if name in names else -1)
    return places.pop() if len(places) == 1 else -1


def agrees(declared: Declaration, written: Declaration) -> bool:
    """Return whether all fields of ``written`` are arguments of ``declared``, of the same kind."""
    arguments = {one.name: one for one in declared.arguments}
    for field in written.arguments:
        known = arguments.get(field.name)
        if known is None or (known.kind is Kind.STRING) != (field.kind is Kind.STRING):
            return False
        if field.kind is Kind.INTEGER and (known.bits, known.signed) != (field.bits, field.signed):
            return False
    return True
