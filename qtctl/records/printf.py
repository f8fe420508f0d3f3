"""Invert printf formats: make plans that parse the arguments back from text that QEMU printed.

Source: fprintf of glibc on 64-bit Linux, and the conversions in QEMU's trace-events (0.14 to 11.1).
A plan is a list of steps, which ``kernels/parsing.py`` runs on every row.

A plan guarantees that the parsed arguments are the only ones that print the text, with one
exception: ``(null)`` is taken for NULL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import islice, pairwise

from qtctl.events.declarations import CONVERSION
from qtctl.model import Argument, Declaration, Kind

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
    only (after the longest run of digits, or before a literal at the line's end). The flags of C:
    ``prefix`` (``#``): ``0x`` before all numbers but 0; ``plus`` (``+``): a sign before all;
    ``left`` (``-``): ``width`` is padded with blanks behind the number.
    """

    op: Op
    text: bytes = b""
    argument: int = -1
    base: int = 0
    upper: bool = False
    prefix: bool = False
    plus: bool = False
    left: bool = False
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

    ``hidden`` are the names of arguments that are not printed. If the format cannot be inverted,
    there are no steps, no row can be parsed, and ``reason`` is why; else it is empty.
    """

    declaration: Declaration
    steps: tuple[Step, ...] = ()
    hidden: tuple[str, ...] = ()
    reason: str = ""


class _NotInvertible(Exception):
    """A format cannot be inverted; the message is the reason."""


def _read_format(declaration: Declaration) -> list[Step]:
    arguments = iter(enumerate(declaration.arguments))
    steps: list[Step] = []
    literal, text, position = "", declaration.format, 0
    while (at := text.find("%", position)) >= 0:
        literal += text[position:at]
        match = CONVERSION.match(text, at)
        if match is None:
            raise _NotInvertible(f"{text[at : at + 8]!r} is not a conversion")
        position = match.end()
        if match["letter"] == "%":
            literal += "%"
            continue
        stars = (match["width"], match["precision"]).count("*")
        taken = list(islice(arguments, stars + 1))
        if len(taken) <= stars:
            raise _NotInvertible("the format takes more arguments than the event has")
        steps += [*_literal(literal), _convert(match, *taken[-1])]
        literal = ""
    return [*steps, *_literal(literal + text[position:])]


def _literal(text: str) -> list[Step]:
    encoded = text.encode("utf-8", "surrogateescape")
    return [Step(Op.LITERAL, encoded, only=True)] if text else []


def _convert(match: re.Match[str], index: int, argument: Argument) -> Step:
    letter, loose = match["letter"], match["width"] == "*"
    width = 0 if loose else int(match["width"] or 0)
    is_text = argument.kind is Kind.STRING
    numeric = letter in _BASES and not is_text
    read = {"0"} | ({"-"} if numeric else set())
    read |= {"#"} if numeric and letter in "xX" else {"+"} if numeric and letter in "di" else set()
    if set(match["flags"]) - read:
        raise _NotInvertible(f"the flags of {match.group()} are not read back")
    if letter == "p" and not width and not loose and match["precision"] is None:
        if is_text:
            raise _NotInvertible(f"{argument.name} is text printed as an address")
        return Step(Op.POINTER, argument=index)
    if letter == "c" and not width and not loose and not is_text:
        if argument.bits > _BITS["hh"]:
            raise _NotInvertible(f"{match.group()} prints only a part of {argument.name}")
        return Step(Op.CHARACTER, argument=index, only=True)
    if letter == "s":
        if match["precision"] is not None or loose:
            raise _NotInvertible(f"{match.group()} may cut or pad {argument.name}")
        if not is_text:
            raise _NotInvertible(f"{argument.name} is not text but printed as such")
        return Step(Op.STRING, argument=index, width=width)
    if numeric:
        return _integer(match, index, argument, width, loose)
    raise _NotInvertible(f"{match.group()} of {argument.name} is not read back")


def _integer(match: re.Match[str], index: int, argument: Argument, width: int, loose: bool) -> Step:
    letter, precision = match["letter"], match["precision"]
    base = _BASES[letter]
    signed = letter in "di"
    bits = _BITS.get(match["length"], 64)
    loose = loose or precision == "*"
    flags = match["flags"]
    # C ignores the 0 flag where there is a precision or the number stands left.
    zeros = "0" in flags and precision is None and "-" not in flags
    least = int(precision) if precision and precision != "*" else 1
    room = bits
    if not argument.signed and argument.bits < bits:
        room = argument.bits
    natural = {10: len(str((1 << room) - 1)), 16: (room + 3) // 4, 8: (room + 2) // 3}[base]
    fill = max(least, width if zeros else 0)
    most = 64 if loose else max(natural, fill)
    # A fixed number of digits ends in one place, whatever follows.
    bare = "#" not in flags and not signed
    fixed = not loose and bare and most == fill and (zeros or not width)
    return Step(
        Op.INTEGER,
        argument=index,
        base=base,
        upper=letter == "X",
        prefix="#" in flags,
        plus="+" in flags,
        left="-" in flags,
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
    """Return the plan of an event; it never raises, see ``Plan.reason``."""
    try:
        steps = _read_format(declaration)
        _refuse_neighbours(steps, declaration)
        if len(steps) > _STEP_LIMIT:
            raise _NotInvertible(f"more than {_STEP_LIMIT} pieces")
    except _NotInvertible as reason:
        return Plan(declaration, reason=str(reason))
    shown = {step.argument for step in steps}
    hidden = [one.name for at, one in enumerate(declaration.arguments) if at not in shown]
    return Plan(declaration, _mark_only(steps), tuple(hidden))


def _refuse_neighbours(steps: list[Step], declaration: Declaration) -> None:
    for one, two in pairwise(steps):
        names = [declaration.arguments[s.argument].name for s in (one, two) if s.argument >= 0]
        if one.op is two.op is Op.STRING:
            raise _NotInvertible(f"nothing stands between the texts {names[0]} and {names[1]}")
        if one.op is two.op is Op.INTEGER and not one.only and not two.only:
            raise _NotInvertible(f"nothing stands between the numbers {names[0]} and {names[1]}")


def _mark_only(steps: list[Step]) -> tuple[Step, ...]:
    return tuple(
        replace(step, only=True) if not step.only and _ends_once(step, steps[place:]) else step
        for place, step in enumerate(steps, 1)
    )


def _ends_once(step: Step, after: list[Step]) -> bool:
    """Return whether a step before the steps ``after`` can end in one place only."""
    if not after:
        return True
    if after[0].op is not Op.LITERAL:
        return False
    if step.op is Op.STRING:
        return len(after) == 1
    letters = b"ABCDEF" if step.upper else b"abcdef"
    digits = {8: b"01234567", 10: b"0123456789"}.get(step.base, b"0123456789" + letters)
    return after[0].text[0] not in digits + (b"xX" if step.prefix else b"")


def hex_arguments(declaration: Declaration) -> frozenset[str]:
    """Return the names of arguments that QEMU prints in hex: addresses, and those with ``%x``."""
    steps = make_plan(declaration).steps
    shown = {s.argument for s in steps if s.op is Op.POINTER or s.base == 16}
    pointers = {a.name for a in declaration.arguments if a.kind is Kind.POINTER}
    return frozenset(pointers | {declaration.arguments[index].name for index in shown})


class HexArguments(Mapping[str, frozenset[str]]):
    """The :func:`hex_arguments` of events, each of which is read when it is asked for.

    An event that is declared several times has those of all.
    """

    def __init__(self, declared: Iterable[Declaration]) -> None:
        self._declared: dict[str, list[Declaration]] = {}
        for one in declared:
            self._declared.setdefault(one.name, []).append(one)
        self._found: dict[str, frozenset[str]] = {}

    def __getitem__(self, event: str) -> frozenset[str]:
        if event not in self._found:
            each = map(hex_arguments, self._declared[event])
            self._found[event] = frozenset().union(*each)
        return self._found[event]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)
