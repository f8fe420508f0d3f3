"""Makes up log lines for events, in the forms real QEMUs write."""

from __future__ import annotations

import datetime
import itertools
import os
import random
import re
import time
from collections.abc import Sequence
from typing import Literal

from . import declarations
from .declarations import Declaration

Prefix = Literal["none", "thread", "iso"]

_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?"
    r"(?P<length>hh|h|ll|l|z|t|j)?(?P<kind>[diouxXcspm%])"
)
_WORDS = ("port92", "pic", "ide0-hd0", "virtio0", "pc.ram", "a name with spaces", "x=1")
_NARROW = {"bool": 1, "uint8_t": 8, "uint16_t": 16, "int8_t": 7, "int16_t": 15}
_NOISE = (
    "----------------",
    "IN: ",
    "0x000fd0a4:  66 b8 20 00 00 00        movl     $0x20, %eax",
    "CPU Reset (CPU 0)",
    "Servicing hardware INT=0x08",
    "qemu: warning: something a device says",
)


class Emitter:
    """Writes lines for events, the same ones for the same seed."""

    def __init__(
        self,
        versions: Sequence[str],
        *,
        prefix: Prefix = "none",
        seed: int = 0,
        clock: float | None = None,
    ) -> None:
        """Use declarations of ``versions``; ``clock`` freezes the time of day."""
        self._declared = [declarations.load(version) for version in versions]
        self._prefix = prefix
        self._random = random.Random(seed)
        self._pointers = [0x55A11F000000 + self._random.randrange(1 << 20) * 16 for _ in range(8)]
        self._noise = itertools.cycle(_NOISE)
        self._clock = clock

    def declaration(self, name: str) -> Declaration:
        """Return how an event is declared; an unknown one has no arguments."""
        for declared in self._declared:
            if name in declared:
                return declared[name]
        return Declaration(name, (), "")

    def values(self, declared: Declaration) -> list[int | str | None]:
        """Make up values for an event's arguments."""
        return [self._value(kind, name) for kind, name in declared.arguments]

    def _value(self, kind: str, name: str) -> int | str | None:
        if re.search(r"char \*|char\s*\*|str", kind):
            return self._random.choice((*_WORDS, None)) if "*" in kind else 0
        if "*" in kind:
            return self._random.choice((*self._pointers, *self._pointers, 0))
        if kind in _NARROW:
            return self._random.randrange(1 << _NARROW[kind])
        if name in ("cpu", "cpu_index"):
            return 0
        if kind in ("int", "long", "int32_t", "int64_t", "ssize_t"):
            return self._random.choice((0, 0, 1, 7, 512, -1, -22))
        bits = 63 if "64" in kind or "size_t" in kind else 31
        return self._random.choice((0, 1, 0x92, 512, 4096, self._random.getrandbits(bits)))

    def text(self, declared: Declaration, values: Sequence[int | str | None]) -> str:
        """Print values through the event's format as the C library would."""
        left = iter(values)

        def convert(found: re.Match[str]) -> str:
            kind = found["kind"]
            if kind == "%":
                return "%"
            if kind == "m":
                return "Success"
            width = next(left, 0) if found["width"] == "*" else found["width"] or ""
            asked = found["precision"]
            precision = next(left, 0) if asked == "*" else asked
            value = next(left, 0)
            if kind == "s":
                shown = "(null)" if value is None else str(value)
                cut = None if precision is None else max(0, int(precision))
                return f"%{found['flags'].replace('0', '')}{width}s" % shown[:cut]
            number = value if isinstance(value, int) else 0
            if kind == "p":
                return f"{number:#x}" if number else "(nil)"
            if kind == "c":
                return chr(number % 95 + 32)
            if kind in "ouxX" and number < 0:
                number += 1 << (64 if found["length"] in ("l", "ll", "z", "t", "j") else 32)
            point = "" if precision is None else f".{precision}"
            flags = found["flags"]
            if number == 0 and kind in "xX":
                # C prints no 0x before a zero, Python does.
                flags = flags.replace("#", "")
            kind = "d" if kind in "iu" else kind
            return f"%{flags}{width}{point}{kind}" % number

        return _CONVERSION.sub(convert, declared.format)

    def stamp(self) -> str:
        """Return the prefix of a line."""
        if self._prefix == "none":
            return ""
        now = time.time() if self._clock is None else self._clock
        if self._prefix == "thread":
            micros = int(now * 1e6)
            return f"{os.getpid()}@{micros // 1_000_000}.{micros % 1_000_000:06d}:"
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z "

    def line(self, name: str) -> bytes:
        """Return a whole line for an event."""
        declared = self.declaration(name)
        return self.raw(name, self.text(declared, self.values(declared)))

    def raw(self, name: str, text: str) -> bytes:
        """Return a whole line of given words."""
        return f"{self.stamp()}{name} {text}\n".encode()

    def noise(self) -> bytes:
        """Return a line as ``-d`` items and warnings write, which carries no event."""
        return next(self._noise).encode() + b"\n"
