"""What the metadata of a trace in the Common Trace Format says: types, events, clocks.

Sources: The Common Trace Format 1.8.3 and 2.0. ``tsdl.py`` and ``ctf_json.py`` parse the two forms
of metadata into these; ``program.py`` compiles them for the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, TypeVar

from qtctl.model import Argument, Declaration, Kind
from qtctl.records.columns import Int64Array

CtfRanges: TypeAlias = "tuple[tuple[str, int, int], ...]"
CtfType: TypeAlias = "CtfNumber | CtfText | CtfStruct | CtfArray | CtfVariant"
Cycles = TypeVar("Cycles", int, Int64Array)
CtfFields: TypeAlias = "tuple[tuple[str, CtfType], ...]"


DEEPEST = 32
"""Types are nested no deeper in metadata."""


class CtfNumber(NamedTuple):
    """An integer, an enumeration (``ranges``: label, first, last) or a ``real`` number.

    ``align`` is in bits. ``clock`` names the clock of which it is the value.
    """

    bits: int
    signed: bool = False
    align: int = 1
    big: bool = False
    base: int = 10
    clock: str = ""
    ranges: CtfRanges = ()
    real: bool = False


class CtfText(NamedTuple):
    """Bytes up to a NUL."""

    align: int = 8


class CtfStruct(NamedTuple):
    """Fields one after the other."""

    fields: CtfFields
    least_align: int = 1

    @property
    def align(self) -> int:
        """The largest alignment of its fields, in bits."""
        return max((self.least_align, *(kind.align for _, kind in self.fields)))


class CtfArray(NamedTuple):
    """Elements; ``length`` is their number, or the name of the field that has it."""

    element: CtfType
    length: int | str

    @property
    def align(self) -> int:
        """The alignment of an element, in bits."""
        return self.element.align


class CtfVariant(NamedTuple):
    """One of several types: the field ``tag`` has the label, or a number in ``ranges``."""

    tag: str
    options: CtfFields
    ranges: CtfRanges = ()
    align: int = 1


class TraceClock(NamedTuple):
    """A clock: ``frequency`` cycles a second, its zero ``offset_s`` and ``offset`` after 1970."""

    frequency: int = 10**9
    offset_s: int = 0
    offset: int = 0

    @classmethod
    def checked(cls, frequency: int, offset_s: int, offset: int) -> TraceClock:
        """Return a clock of facts from outside.

        Raises:
            ValueError: its times would be impossible.
        """
        if not 0 < frequency <= 9 * 10**9:
            raise ValueError(f"a clock of {frequency} Hz")
        clock = cls(frequency, offset_s, offset)
        if abs(clock.offset_ns) >= 1 << 62:
            raise ValueError("a clock that begins at no time")
        return clock

    @property
    def offset_ns(self) -> int:
        """Unix time of its zero, in ns."""
        return self.offset_s * 10**9 + self.offset * 10**9 // self.frequency

    @property
    def shift_ns(self) -> int:
        """What makes cycles Unix times in ns if it is added; 0 if that takes more."""
        return self.offset_ns if self.frequency == 10**9 else 0

    def unix_ns(self, cycles: Cycles) -> Cycles:
        """Return Unix times in ns of numbers of cycles."""
        if self.frequency != 10**9:
            seconds, rest = cycles // self.frequency, cycles % self.frequency
            cycles = seconds * 10**9 + rest * 10**9 // self.frequency
        return cycles + self.offset_ns


class EventClass(NamedTuple):
    """An event of a stream class; ``name`` includes the provider: ``qemu:NAME``."""

    name: str
    number: int
    stream: int
    context: CtfType | None
    fields: CtfStruct


class StreamClass(NamedTuple):
    """What the packets and events of a channel begin with."""

    packet: CtfType | None = None
    header: CtfType | None = None
    context: CtfType | None = None


@dataclass(frozen=True)
class TraceMetadata:
    """The metadata of one trace."""

    uuid: bytes = b""
    big: bool = False
    header: CtfType | None = None
    streams: Mapping[int, StreamClass] = field(default_factory=dict)
    events: tuple[EventClass, ...] = ()
    clocks: Mapping[str, TraceClock] = field(default_factory=dict)
    environment: Mapping[str, str | int] = field(default_factory=dict)


PROVIDER = "qemu:"


def own_events(trace: TraceMetadata) -> list[EventClass]:
    """Return the events of provider ``qemu``."""
    return [event for event in trace.events if event.name.startswith(PROVIDER)]


def members(kind: CtfType | None) -> CtfFields:
    """Return the fields of a struct; none of what is no struct."""
    return kind.fields if isinstance(kind, CtfStruct) else ()


def shown(name: str) -> str:
    """Return a field's name without the underscore that CTF 1.8 puts before it."""
    return name.removeprefix("_")


class FieldLayout(NamedTuple):
    """A field of an event as bytes: ``bits`` is 0 for a text. ``align`` is in bytes."""

    name: str
    bits: int
    signed: bool = False
    align: int = 1
    big: bool = False


def plain_fields(event: EventClass) -> tuple[FieldLayout, ...] | None:
    """Return the fields of an event of numbers of whole bytes and texts; None for another.

    QEMU's generator (``scripts/tracetool/format/ust_events_h.py`` of 7.2 to 11.1) makes no others,
    and leaves arguments out whose C type it does not know.
    """
    found = []
    for name, kind in event.fields.fields:
        if isinstance(kind, CtfText):
            found.append(FieldLayout(shown(name), 0))
        elif isinstance(kind, CtfNumber) and not kind.real and _of_bytes(kind):
            found.append(
                FieldLayout(shown(name), kind.bits, kind.signed, kind.align // 8, kind.big)
            )
        else:
            return None
    return tuple(found)


def _of_bytes(kind: CtfNumber) -> bool:
    return kind.bits in (8, 16, 32, 64) and kind.align in (8, 16, 32, 64)


def declared_events(trace: TraceMetadata) -> dict[str, Declaration]:
    """Return the events of provider ``qemu`` with their fields, as declarations of QEMU's."""
    found = {}
    for event in own_events(trace):
        name = event.name.removeprefix(PROVIDER)
        readable = plain_fields(event) is not None
        fields = event.fields.fields if readable else ()
        arguments = [_argument(shown(called), kind) for called, kind in fields]
        form = " ".join(f"{one.name} {conversion}" for one, conversion in arguments)
        found[name] = Declaration(name, tuple(one for one, _ in arguments), form)
    return found


def _argument(name: str, kind: CtfType) -> tuple[Argument, str]:
    """Return an argument and how it is printed; 64 bits in hex are taken for an address."""
    if not isinstance(kind, CtfNumber):
        return Argument(name, "const char *", Kind.STRING, 64, False), "%s"
    if kind.base == 16 and kind.bits == 64:
        return Argument(name, "void *", Kind.POINTER, 64, False), "%p"
    ctype = f"{'' if kind.signed else 'u'}int{kind.bits}_t"
    conversion = "%#lx" if kind.base == 16 else "%ld" if kind.signed else "%lu"
    return Argument(name, ctype, Kind.INTEGER, kind.bits, kind.signed), conversion


def agrees(declared: Declaration, written: Declaration) -> bool:
    """Return whether all fields of ``written`` are arguments of ``declared``, of the same kind."""
    arguments = {one.name: one for one in declared.arguments}
    for one in written.arguments:
        known = arguments.get(one.name)
        if known is None or (known.kind is Kind.STRING) != (one.kind is Kind.STRING):
            return False
        if one.kind is Kind.INTEGER and (known.bits, known.signed) != (one.bits, one.signed):
            return False
    return True
