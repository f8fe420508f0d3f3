"""Invert printf formats: make plans that parse the arguments back from text that QEMU printed.

Source: fprintf of glibc on 64-bit Linux, and the conversions in QEMU's trace-events (7.2 to 11.1).
A plan is a list of steps, which ``kernels/parsing.py`` runs on every row.

A plan guarantees that the parsed arguments are the only ones that print the text, with one
exception: leading blanks of a ``%20s`` are taken for padding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise

from qtctl.model import Argument, Declaration, Kind

_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0']*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?"
    r"(?P<length>hh|h|ll|l|q|j|z|t|L)?(?P<letter>[a-zA-Z%])"
)
_BITS = {"hh": 8, "h": 16, None: 32}
_BASES = {"d": 10, "i": 10, "u": 10, "x": 16, "X": 16, "o": 8}
_STEP_LIMIT = 64


class Op(IntEnum):
    """Type of a step; ``kernels/parsing.py`` uses the same numbers."""

    LITERAL = 0
    INTEGER = 1
    POINTER = 2
    CHARACTER = 3
    STRING = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of a format: a literal or a conversion.

    ``argument`` is the index in the declaration (-1 for a literal). For an integer: ``least`` and
    ``most`` are the numbers of digits, ``bits`` and ``signed`` the type that C prints, after
    promotion. ``zeros``: ``width`` is padded with zeros, which count as digits. ``loose``: the
    width is itself an argument, so any padding is accepted. ``only``: the step can end in one place
    only (after the longest run of digits, or before a literal at the line's end).
    """

    op: Op
    text: bytes = b""
    argument: int = -1
    base: int = 0
    upper: bool = False
    least: int = 1
    most: int = 20
    width: int = 0
    zeros: bool = False
    loose: bool = False
    bits: int = 32
    signed: bool = False
    only: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that parse the arguments of one event from its text.

    ``extra_lines`` is the number of lines of a record after its first. ``hidden`` are the names of
    arguments that are not printed. If the format is not ``invertible``, no row can be parsed;
    ``reason`` is why.
    """

    declaration: Declaration
    steps: tuple[Step, ...] = ()
    extra_lines: int = 0
    hidden: tuple[str, ...] = ()
    invertible: bool = True
    reason: str = ""


class _NotInvertible(Exception):
    """A format cannot be inverted; the message is the reason."""


@dataclass(slots=True)
class _Builder:
    declaration: Declaration
    steps: list[Step] = field(default_factory=list)
    literal: str = ""
    taken: int = 0
    shown: set[int] = field(default_factory=set)

    def next_argument(self) -> tuple[int, Argument]:
        if self.taken >= len(self.declaration.arguments):
            raise _NotInvertible("the format takes more arguments than the event has")
        self.taken += 1
        return self.taken - 1, self.declaration.arguments[self.taken - 1]

    def end_literal(self) -> None:
        if self.literal:
            text = self.literal.encode("utf-8", "surrogateescape")
            self.steps.append(Step(Op.LITERAL, text, only=True))
            self.literal = ""

    def convert(self, match: re.Match[str]) -> None:
        flags, letter = match["flags"], match["letter"]
        if letter == "%":
            self.literal += "%"
            return
        self.end_literal()
        if set(flags) - {"0"}:
            raise _NotInvertible(f"the flags of {match.group()} are not read back")
        loose = match["width"] == "*"
        if loose:
            self.next_argument()
        if match["precision"] == "*":
            self.next_argument()
        index, argument = self.next_argument()
        self.shown.add(index)
        width = int(match["width"] or 0) if not loose else 0
        if letter == "p" and not width and not loose and match["precision"] is None:
            if argument.kind is Kind.STRING:
                raise _NotInvertible(f"{argument.name} is text printed as an address")
            self.steps.append(Step(Op.POINTER, argument=index))
        elif letter == "c" and not width and not loose and argument.kind is not Kind.STRING:
            self.steps.append(Step(Op.CHARACTER, argument=index, only=True))
        elif letter == "s":
            if match["precision"] is not None or loose:
                raise _NotInvertible(f"{match.group()} may cut or pad {argument.name}")
            if argument.kind is not Kind.STRING:
                raise _NotInvertible(f"{argument.name} is not text but printed as such")
            self.steps.append(Step(Op.STRING, argument=index, width=width))
        elif letter in _BASES and argument.kind is not Kind.STRING:
            self.steps.append(_integer(match, index, argument, width, loose))
        else:
            raise _NotInvertible(f"{match.group()} of {argument.name} is not read back")


def _integer(match: re.Match[str], index: int, argument: Argument, width: int, loose: bool) -> Step:
    letter, precision = match["letter"], match["precision"]
    base = _BASES[letter]
    signed = letter in "di"
    bits = _BITS.get(match["length"], 64)
    loose = loose or precision == "*"
    # C ignores the 0 flag where there is a precision.
    zeros = "0" in match["flags"] and precision is None
    least = int(precision) if precision and precision != "*" else 1
    room = bits
    if not argument.signed and argument.bits < bits:
        room = argument.bits
    natural = {10: len(str((1 << room) - 1)), 16: (room + 3) // 4, 8: (room + 2) // 3}[base]
    fill = max(least, width if zeros else 0)
    most = 64 if loose else max(natural, fill)
    # A fixed number of digits ends in one place, whatever follows.
    fixed = not loose and not signed and most == fill and (zeros or not width)
    return Step(
        Op.INTEGER,
        argument=index,
        base=base,
        upper=letter == "X",
        least=max(least, 1),
        most=most,
        width=width,
        zeros=zeros,
        loose=loose,
        bits=bits,
        signed=signed,
        only=fixed,
    )


def make_plan(declaration: Declaration) -> Plan:
    """Return the plan of an event; it never raises, see ``Plan.invertible``."""
    text = declaration.format
    lines = text.count("\n")
    builder = _Builder(declaration)
    position = 0
    try:
        while (at := text.find("%", position)) >= 0:
            builder.literal += text[position:at]
            match = _CONVERSION.match(text, at)
            if match is None:
                raise _NotInvertible(f"{text[at : at + 8]!r} is not a conversion")
            builder.convert(match)
            position = match.end()
        builder.literal += text[position:]
        builder.end_literal()
        _refuse_neighbours(builder.steps, declaration)
        if len(builder.steps) > _STEP_LIMIT:
            raise _NotInvertible(f"more than {_STEP_LIMIT} pieces")
    except _NotInvertible as reason:
        return Plan(declaration, extra_lines=lines, invertible=False, reason=str(reason))
    hidden = tuple(
        argument.name
        for index, argument in enumerate(declaration.arguments)
        if index not in builder.shown
    )
    return Plan(declaration, _mark_only(builder.steps), lines, hidden)


def _refuse_neighbours(steps: list[Step], declaration: Declaration) -> None:
    for one, two in pairwise(steps):
        names = [declaration.arguments[s.argument].name for s in (one, two) if s.argument >= 0]
        if one.op is two.op is Op.STRING:
            raise _NotInvertible(f"nothing stands between the texts {names[0]} and {names[1]}")
        if one.op is two.op is Op.INTEGER and not one.only and not two.only:
            raise _NotInvertible(f"nothing stands between the numbers {names[0]} and {names[1]}")


def _mark_only(steps: list[Step]) -> tuple[Step, ...]:
    marked: list[Step] = []
    for index, step in enumerate(steps):
        after = steps[index + 1] if index + 1 < len(steps) else None
        if not step.only:
            if after is None:
                step = replace(step, only=True)
            elif after.op is Op.LITERAL:
                step = replace(step, only=_ends_before(step, after.text, index + 2 == len(steps)))
        marked.append(step)
    return tuple(marked)


def _ends_before(step: Step, text: bytes, last: bool) -> bool:
    """Return whether a step before the literal ``text`` can end in one place only."""
    if step.op is Op.STRING:
        return last
    letters = b"ABCDEF" if step.upper else b"abcdef"
    digits = {8: b"01234567", 10: b"0123456789"}.get(step.base, b"0123456789" + letters)
    return text[0] not in digits


def render(declaration: Declaration, arguments: Mapping[str, int | str]) -> str:
    """Format an event's arguments like C's printf, for tests and demos.

    Bytes that are not UTF-8 are surrogate escapes.

    Raises:
        KeyError: an argument is missing.
        ValueError: trace events do not use the conversion.
    """
    values = iter(declaration.arguments)

    def convert(match: re.Match[str]) -> str:
        letter = match["letter"]
        if letter == "%":
            return "%"
        width, precision = match["width"] or "", match["precision"]
        if width == "*":
            width = str(arguments[next(values).name])
        if precision == "*":
            precision = str(arguments[next(values).name])
        value = arguments[next(values).name]
        head = f"%{match['flags']}{width}" + ("" if precision is None else f".{precision}")
        return _render_one(head, match["length"], letter, value)

    return _CONVERSION.sub(convert, declaration.format)


def _render_one(head: str, length: str | None, letter: str, value: int | str) -> str:
    result: bytes
    if letter == "s":
        text = str(value).encode("utf-8", "surrogateescape")
        result = (head + "s").encode() % text
    elif letter == "p":
        address = int(value) & (1 << 64) - 1
        result = (head + "s").encode() % (b"0x%x" % address if address else b"(nil)")
    elif letter == "c":
        result = (head + "s").encode() % bytes((int(value) & 0xFF,))
    elif letter in _BASES:
        bits = _BITS.get(length, 64)
        number = int(value) & (1 << bits) - 1
        if letter in "di" and number >> bits - 1:
            number -= 1 << bits
        result = (head + ("d" if letter in "diu" else letter)).encode() % number
    else:
        raise ValueError(f"conversion %{letter} is not used by trace events")
    return result.decode("utf-8", "surrogateescape")


def hex_arguments(declaration: Declaration) -> frozenset[str]:
    """Return the names of arguments that QEMU prints in hex: addresses, and those with ``%x``."""
    steps = make_plan(declaration).steps
    shown = {s.argument for s in steps if s.op is Op.POINTER or s.base == 16}
    pointers = {a.name for a in declaration.arguments if a.kind is Kind.POINTER}
    return frozenset(pointers | {declaration.arguments[index].name for index in shown})
