"""The kernel's own events (``kvm:kvm_exit``): their names, and declarations from their formats.

Source: Documentation/trace/events.rst of Linux, 6.1 to 6.18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from qtctl.backends.ring import tracefs
from qtctl.backends.ring.layout import EventFormat, Field
from qtctl.errors import NothingMatched, Unsupported
from qtctl.events.patterns import near
from qtctl.events.selection import Selection
from qtctl.model import Argument, Declaration, Kind

_COMMON = "common_"
_MOST_ELEMENTS = 8
_SIZES = (1, 2, 4, 8)
_ARRAY = re.compile(r"(?P<of>.*?)\s*\[(?P<count>\d*)\]")
_CONVERSION = re.compile(r"%(?:%|[-+ #0]*\d*(?:\.\d+)?(?:hh?|ll?|z|L)?(?P<type>[a-zA-Z]))")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')


class FieldPlace(NamedTuple):
    """Where a record has an argument: ``form`` is ``number``, ``text``, ``data`` or ``relative``.

    The last two have where the text is, from the beginning of the record or from behind the field.
    """

    offset: int
    size: int
    form: str


class KernelEvent(NamedTuple):
    """An event of the kernel: its number, its declaration, and where its arguments are."""

    number: int
    declaration: Declaration
    places: tuple[FieldPlace, ...]


def split(selection: Selection) -> tuple[Selection, Selection]:
    """Return the rules for QEMU's events, and those for the kernel's, which have a colon."""
    parts = [
        [rule for rule in selection.rules if (":" in rule[1]) is of_kernel]
        for of_kernel in (False, True)
    ]
    ours, kernels = (Selection(tuple(part)) for part in parts)
    return ours, kernels


def kernel_names(selection: Selection) -> list[str]:
    """Return the kernel events that a selection picks, as ``SYSTEM:EVENT``.

    Raises:
        Unsupported: tracefs cannot be reached.
        NothingMatched: one of the patterns matches none.
    """
    if not selection:
        return []
    root = tracefs.find_tracefs("the kernel's events are read", "")
    names = (root / "available_events").read_text().split()
    for pattern in selection.unmatched(names):
        close = " or ".join(near(pattern, names)) or f"cat {root}/available_events"
        missing = pattern.partition(":")[0]
        absent = f"modprobe {missing}, if it is a module; " if missing == "kvm" else ""
        raise NothingMatched(f"no kernel event matches {pattern!r}", hint=absent + close)
    return selection.pick(names)


def kernel_events(selection: Selection) -> dict[str, KernelEvent]:
    """Return the kernel events that a selection picks, by name. Raises as :func:`kernel_names`.

    Raises:
        Unsupported: this kernel has another form of records than is known.
    """
    names = kernel_names(selection)
    if not names:
        return {}
    root = tracefs.find_tracefs("the kernel's events are read", "")
    found = {}
    for name in names:
        try:
            found[name] = kernel_event(name, tracefs.read_format(root, name))
        except (OSError, ValueError) as error:
            raise Unsupported(
                f"cannot read the format of the kernel event {name}: {error}",
                hint=f"cat {root}/events/{name.replace(':', '/')}/format",
            ) from error
    return found


def kernel_event(name: str, form: EventFormat) -> KernelEvent:
    """Return an event from its format; fields that are neither numbers nor texts are left out."""
    in_hex = _in_hex(form.printed)
    arguments: list[Argument] = []
    places: list[FieldPlace] = []
    shown = []
    for field_name, field in form.fields.items():
        if field_name.startswith(_COMMON):
            continue
        for argument, place in _arguments(field_name, field):
            arguments.append(argument)
            places.append(place)
            if argument.kind is Kind.STRING:
                conversion = "%s"
            elif argument.kind is Kind.POINTER or field_name in in_hex:
                conversion = "0x%" + "l" * (argument.bits > 32) + "x"
            else:
                conversion = "%" + "l" * (argument.bits > 32) + "ud"[argument.signed]
            shown.append(f"{argument.name}={conversion}")
    declaration = Declaration(name, tuple(arguments), " ".join(shown))
    return KernelEvent(form.number, declaration, tuple(places))


def _arguments(name: str, field: Field) -> Iterator[tuple[Argument, FieldPlace]]:
    """Yield the arguments that a field has."""
    array = _ARRAY.fullmatch(field.ctype)
    if array is None:
        if field.size in _SIZES:
            kind = Kind.POINTER if field.ctype.endswith("*") else Kind.INTEGER
            one = Argument(name, field.ctype, kind, 8 * field.size, field.signed)
            yield one, FieldPlace(field.offset, field.size, "number")
        return
    of, count = array["of"], int(array["count"] or 0)
    if of == "char" and count:
        yield _text(name), FieldPlace(field.offset, field.size, "text")
    elif of in ("__data_loc char", "__rel_loc char") and field.size == 4:
        form = "data" if of.startswith("__data") else "relative"
        yield _text(name), FieldPlace(field.offset, field.size, form)
    elif 0 < count <= _MOST_ELEMENTS and field.size % count == 0 and field.size // count in _SIZES:
        size = field.size // count
        for number in range(count):
            one = Argument(f"{name}{number}", of, Kind.INTEGER, 8 * size, field.signed)
            yield one, FieldPlace(field.offset + number * size, size, "number")


def _text(name: str) -> Argument:
    return Argument(name, "const char *", Kind.STRING, 64, False)


def _in_hex(printed: str) -> set[str]:
    """Return the fields that the kernel prints in hex, as far as that is plain to see."""
    literal = _LITERAL.match(printed)
    if literal is None:
        return set()
    conversions = [one["type"] for one in _CONVERSION.finditer(literal[0]) if one["type"]]
    found = set()
    for conversion, argument in zip(conversions, _split(printed[literal.end() :]), strict=False):
        fields = re.findall(r"\bREC->(\w+)", argument)
        if conversion in "xXp" and len(fields) == 1:
            found.add(fields[0])
    return found


def _split(arguments: str) -> Sequence[str]:
    """Split arguments of a call at the commas that are in no brackets; a comma begins them."""
    parts, depth = [""], 0
    for letter in _LITERAL.sub('""', arguments):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts[1:]
