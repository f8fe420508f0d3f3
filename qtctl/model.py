"""Immutable types that the control plane and the data plane share. No I/O, quick to import."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias


class EventState(StrEnum):
    """State of a trace event, by QMP's names (``qapi/trace.json``, QEMU 7.2 to 11.1)."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    UNAVAILABLE = "unavailable"


class Backend(str):
    """Where QEMU sends trace events (``--enable-trace-backends``): a name.

    ``qtctl.backends.table`` lists those that qtctl knows; a recording may name another.

    Raises:
        ValueError: no backend can have that name.
    """

    __slots__ = ()
    LOG: ClassVar[Backend]
    SIMPLE: ClassVar[Backend]
    FTRACE: ClassVar[Backend]
    SYSLOG: ClassVar[Backend]
    UST: ClassVar[Backend]
    DTRACE: ClassVar[Backend]
    NOP: ClassVar[Backend]

    def __new__(cls, name: str) -> Self:
        """Check the name."""
        if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
            raise ValueError(f"{name!r} names no trace backend")
        return super().__new__(cls, name)

    def __repr__(self) -> str:
        return f"Backend({str(self)!r})"


for _name in ("LOG", "SIMPLE", "FTRACE", "SYSLOG", "UST", "DTRACE", "NOP"):
    setattr(Backend, _name, Backend(_name.lower()))


class Clock(StrEnum):
    """Clock of ``time_ns``: Unix time, time since boot, or Unix time when qtctl read the record."""

    REALTIME = "realtime"
    MONOTONIC = "monotonic"
    ARRIVAL = "arrival"


class Kind(StrEnum):
    """Kind of an argument: a whole number, an address, or text."""

    INTEGER = "integer"
    POINTER = "pointer"
    STRING = "string"


class Argument(NamedTuple):
    """One argument of a declaration.

    ``ctype`` is the C type as declared; ``bits`` is its width on a 64-bit host (8 to 64, 64 for
    unknown types); ``signed`` is whether it is a signed number.
    """

    name: str
    ctype: str
    kind: Kind
    bits: int
    signed: bool


class Declaration(NamedTuple):
    """Name, typed arguments and printf format of an event.

    ``format`` has QEMU's macros (``PRIx64``) already expanded and C escapes resolved.
    ``disabled`` events were compiled out (the ``disable`` property). ``line`` counts from 1 in the
    file that declares it.
    """

    name: str
    arguments: tuple[Argument, ...]
    format: str
    disabled: bool = False
    line: int = 0


class GuestEvent(NamedTuple):
    """A QMP event: the guest stopped, was reset, panicked. ``time_ns``: Unix time by QEMU."""

    name: str
    data: Mapping[str, Any]
    time_ns: int
    guest: str | None = None


class Mark(NamedTuple):
    """A user's note in the stream. ``time_ns``: Unix time."""

    text: str
    time_ns: int
    guest: str | None = None


class Control(NamedTuple):
    """Events were switched: ``action`` is enable or disable. ``time_ns``: Unix time.

    ``pid`` is the qtctl that switched them; 0 where that is not known.
    """

    action: str
    patterns: tuple[str, ...]
    changed: int
    time_ns: int
    pid: int = 0
    guest: str | None = None


class Budget(NamedTuple):
    """Upper limit of a stream: events a second, and bytes of their records a second."""

    per_s: float = math.inf
    bytes_per_s: float = math.inf

    def __str__(self) -> str:
        """Return the limit in the form that ``--guard`` takes."""
        return f"{self.per_s:.0f}" if self.per_s < math.inf else f"{self.bytes_per_s:.0f}B"


class Flood(NamedTuple):
    """A stream exceeds its :class:`Budget`: ``per_s`` events a second, by name in ``loudest``.

    ``bytes_per_s`` is the size of their records, as the backend wrote them. Disabling ``patterns``
    would suffice; ``guarded``: qtctl is disabling them. ``time_ns``: Unix time.
    """

    per_s: int
    bytes_per_s: int
    loudest: tuple[tuple[str, int], ...]
    patterns: tuple[str, ...]
    guarded: bool
    time_ns: int
    guest: str | None = None


class Failure(NamedTuple):
    """One of several guests failed, and is followed no more: an error, its hint and exit code."""

    message: str
    hint: str
    exit_code: int
    time_ns: int
    guest: str | None = None


News: TypeAlias = GuestEvent | Mark | Control | Flood | Failure
"""Items of a stream that are no records. ``guest`` is its name, where several are followed."""


EVERY = "all"
"""The TARGET that means all guests that run on this machine."""


class Address(NamedTuple):
    """Where a QMP server listens: a Unix socket's ``path``, or a TCP ``host`` and ``port``."""

    path: str | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}"


class Holder(NamedTuple):
    """A process that holds a monitor's only connection; ``pid`` is None where it is not visible."""

    pid: int | None
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid is not None else self.name


class Guest(NamedTuple):
    """One running QEMU process, as the kernel shows it; its monitor was not touched.

    ``started`` is the start time in clock ticks since boot (field 22 of ``/proc/PID/stat``), which
    with the pid identifies the process even after the pid is reused. ``root`` is the prefix under
    which this process sees the guest's files (``/proc/PID/root`` in a container, else empty).
    ``version`` is the first word of the version text in QEMU's binary, or None where unreadable.
    """

    pid: int
    started: int
    exe: str
    argv: tuple[str, ...]
    name: str | None = None
    version: str | None = None
    addresses: tuple[Address, ...] = ()
    cwd: str = "/"
    root: str = ""
    uid: int = 0
    holders: tuple[Holder, ...] = ()
