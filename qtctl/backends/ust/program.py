"""Compile the types of a trace to steps, by which the kernel passes over fields and reads some.

A step is five numbers; ``kernel.py`` lists the kinds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from qtctl.backends.ust import kernel
from qtctl.backends.ust.ctf import (
    CtfArray,
    CtfFields,
    CtfNumber,
    CtfStruct,
    CtfText,
    CtfType,
    CtfVariant,
)
from qtctl.records.columns import Int64Array

REGISTERS = 64
EVENT, CLOCK, THREAD, PROCESS = range(4)
"""Registers of a record: its event's number, clock, thread and process."""
_FIRST_FREE = 16
_DEEPEST = kernel.LOOPS
_UNROLLED = 1 << 40
_MOST_STEPS = 1 << 22


class StepRange(NamedTuple):
    """Where the steps of a type begin; ``bits`` is its size, or -1 where that differs."""

    first: int
    align: int
    bits: int


class StepProgram:
    """The steps of all types of a trace, each ended by a step END."""

    def __init__(self) -> None:
        self._steps: list[list[int]] = []
        self._known: dict[object, StepRange] = {}
        self._registers: dict[str, int] = {}
        self._tags: dict[str, CtfNumber] = {}
        self._barrier = self._depth = 0

    def steps(self) -> Int64Array:
        """Return all steps, flat."""
        return np.array(self._steps or [[kernel.END, 0, 0, 0, 0]], np.int64).reshape(-1)

    def add(
        self, *parts: tuple[CtfType | None, Mapping[str, int]], clocked: bool = True
    ) -> StepRange:
        """Add the steps of types that follow one another.

        The fields that a type is paired with are read into registers. ``clocked``: a field that is
        the value of a clock sets the record's.

        Raises:
            ValueError: the types make no sense.
        """
        key = tuple((kind, *wanted.items()) for kind, wanted in parts), clocked
        if key not in self._known:
            first = self._barrier = len(self._steps)
            self._clocked = clocked
            for kind, wanted in parts:
                self._add_one(kind, wanted)
            body = self._steps[first:]
            fixed = not body or (len(body) == 1 and body[0][0] == kernel.FIXED)
            bits = (body[0][2] if body else 0) if fixed else -1
            self._step(kernel.END)
            align = max((kind.align for kind, _ in parts if kind is not None), default=1)
            self._known[key] = StepRange(first, align, bits)
        return self._known[key]

    def _add_one(self, kind: CtfType | None, wanted: Mapping[str, int]) -> None:
        self._wanted = dict(wanted)
        for name in _referenced(kind):
            if name not in self._registers and name not in wanted:
                self._registers[name] = _FIRST_FREE + len(self._registers)
        if _FIRST_FREE + len(self._registers) > REGISTERS:
            raise ValueError("too many fields are lengths or tags of others")
        if kind is not None:
            self._type("", kind)

    def _step(self, *numbers: int) -> int:
        self._steps.append([*numbers, *([0] * (5 - len(numbers)))])
        if len(self._steps) > _MOST_STEPS:
            raise ValueError("too many types")
        return len(self._steps) - 1

    def _register(self, name: str) -> int:
        return self._wanted.get(name, self._registers.get(name, -1))

    def _type(self, name: str, kind: CtfType) -> None:
        if isinstance(kind, CtfNumber):
            self._number(name, kind)
        elif isinstance(kind, CtfText):
            self._step(kernel.TEXT)
        elif isinstance(kind, CtfStruct):
            if kind.align > 1:
                self._fixed(kind.align, 0)
            for field, one in kind.fields:
                self._type(field, one)
        elif isinstance(kind, CtfArray):
            self._array(kind)
        else:
            self._variant(kind)

    def _number(self, name: str, kind: CtfNumber) -> None:
        register = self._register(name)
        if kind.ranges:
            self._tags[name] = kind
        ticks = bool(kind.clock) and self._clocked and register < 0
        if register < 0 and not ticks:
            self._fixed(kind.align, kind.bits)
            return
        native = kind.big == (sys.byteorder == "big")
        whole = native and kind.align % 8 == 0 and kind.bits in (8, 16, 32, 64)
        near = native and not kind.big and kind.bits <= 57
        flags = kind.signed * kernel.SIGNED | kind.big * kernel.BIG
        flags |= whole * kernel.WHOLE | near * kernel.NEAR
        step = kernel.TICK if ticks else kernel.READ
        self._step(step, kind.align - 1, kind.bits, register, flags)

    def _fixed(self, align: int, bits: int) -> None:
        """Pass over bits; several such fields are one step where that is the same."""
        if len(self._steps) > self._barrier and self._steps[-1][0] == kernel.FIXED:
            last = self._steps[-1]
            if (last[1] + 1) % align == 0 and last[2] % align == 0:
                last[2] += bits
                return
        self._step(kernel.FIXED, align - 1, bits)

    def _array(self, kind: CtfArray) -> None:
        element = kind.element
        packed = isinstance(element, CtfNumber) and element.bits % element.align == 0
        if packed and isinstance(element, CtfNumber):
            if isinstance(kind.length, str):
                register = self._register(kind.length)
                self._step(kernel.RUN, element.align - 1, element.bits, register)
                self._barrier = len(self._steps)
            elif element.bits * kind.length > _UNROLLED:
                raise ValueError(f"an array of {kind.length} elements")
            else:
                self._fixed(element.align, element.bits * kind.length)
            return
        if self._depth == _DEEPEST:
            raise ValueError("arrays nested too deep")
        self._fixed(element.align, 0)
        if isinstance(kind.length, str):
            loop = self._step(kernel.LOOP, self._register(kind.length), 0, 0, self._depth)
        else:
            loop = self._step(kernel.LOOP, -1, kind.length, 0, self._depth)
        self._barrier = len(self._steps)
        self._depth += 1
        self._type("", element)
        self._depth -= 1
        self._step(kernel.NEXT, 0, 0, loop + 1, self._depth)
        self._steps[loop][3] = self._barrier = len(self._steps)

    def _variant(self, kind: CtfVariant) -> None:
        ranges = kind.ranges or self._tags.get(kind.tag, CtfNumber(8)).ranges
        options = dict(kind.options)
        cases = [(low, high, label) for label, low, high in ranges if label in options]
        switch = self._step(kernel.SWITCH, self._register(kind.tag), len(cases))
        for low, high, _ in cases:
            self._step(kernel.CASE, low, high)
        places, jumps = {}, []
        for label in dict.fromkeys(label for _, _, label in cases):
            places[label] = self._barrier = len(self._steps)
            self._type(label, options[label])
            jumps.append(self._step(kernel.JUMP))
        end = self._barrier = len(self._steps)
        for number, (_, _, label) in enumerate(cases):
            self._steps[switch + 1 + number][3] = places[label]
        for jump in jumps:
            self._steps[jump][3] = end


def _referenced(kind: CtfType | None) -> list[str]:
    """Return the names of fields that are lengths or tags of others."""
    found: list[str] = []
    rest = [kind]
    while rest:
        one = rest.pop()
        inner: CtfFields = ()
        if isinstance(one, CtfArray):
            rest.append(one.element)
            if isinstance(one.length, str):
                found.append(one.length)
        elif isinstance(one, CtfVariant):
            found.append(one.tag)
            inner = one.options
        elif isinstance(one, CtfStruct):
            inner = one.fields
        rest += [part for _, part in inner]
    return found
