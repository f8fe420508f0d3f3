"""The event table of a guest: a hash table of names, and a parsing plan per event, made lazily."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Argument, Declaration, Kind
from qtctl.records.argument_arrays import ArgumentArrays
from qtctl.records.columns import NULL, BoolArray, Column, Int64Array
from qtctl.records.kernels import naming, parsing
from qtctl.records.printf import Op, Plan, Step, make_plan


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A plan in the form of ``parsing.parse_arguments``, and the arguments that it reads."""

    steps: NDArray[np.int64]
    literals: bytes
    arguments: tuple[Argument, ...]


def _compile(plan: Plan) -> _Compiled:
    arguments = plan.declaration.arguments
    shown = sorted({step.argument for step in plan.steps if step.argument >= 0})
    texts = [index for index in shown if arguments[index].kind is Kind.STRING]
    numbers = [index for index in shown if arguments[index].kind is not Kind.STRING]
    places = {index: place for kind in (texts, numbers) for place, index in enumerate(kind)}
    literals = b""
    table = np.zeros((len(plan.steps), len(parsing.FIELDS)), np.int64)
    for row, step in zip(table, plan.steps, strict=True):
        column, bits, signed = -1, 64, False
        if step.argument >= 0:
            argument = arguments[step.argument]
            column, bits, signed = places[step.argument], argument.bits, argument.signed
        row[:] = (
            step.op, len(literals), len(step.text), column, step.base, _flags(step), step.least,
            step.most, step.width, step.zeros, step.loose, step.bits, step.signed, step.only, bits,
            signed,
        )  # fmt: skip
        if step.op is Op.LITERAL:
            literals += step.text
    return _Compiled(table, literals, tuple(arguments[index] for index in shown))


def _flags(step: Step) -> int:
    return step.upper | step.prefix << 1 | step.plus << 2 | step.left << 3


def _holds_text(declaration: Declaration) -> bool:
    """Return whether the printed arguments of an event may hold any byte."""
    texts = (argument.kind is Kind.STRING for argument in declaration.arguments)
    return any(texts) or "%c" in declaration.format


@dataclass(frozen=True, slots=True, eq=False)
class EventTable:
    """Names and declarations of a guest's events, numbered in the order of ``names``.

    The arguments of an event without a declaration stay raw text. By event, and for lines of text
    (-1): ``extra_lines``, the newlines in its format; ``spans``, whether its arguments may hold
    more.
    """

    names: tuple[str, ...]
    declarations: Mapping[str, Declaration]
    indices: Mapping[str, int]
    blob: bytes
    offsets: NDArray[np.int64]
    slots: NDArray[np.int32]
    extra_lines: NDArray[np.int32]
    spans: BoolArray
    longest: int
    _compiled: dict[int, _Compiled | None] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls, names: Iterable[str] | None, declarations: Mapping[str, Declaration]
    ) -> EventTable:
        """Build the table of ``names`` (None: all declared events)."""
        chosen = tuple(dict.fromkeys(declarations if names is None else names))
        encoded = [name.encode("utf-8", "surrogateescape") for name in chosen]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(name) for name in encoded], out=offsets[1:])
        blob = b"".join(encoded)
        slots = np.full(1 << max(4, (4 * len(encoded)).bit_length()), -1, np.int32)
        naming.index_names(blob, offsets.data, slots.data)
        # One more than the number of events: lines of text are event -1.
        extra = np.zeros(len(encoded) + 1, np.int32)
        spans = np.zeros(len(encoded) + 1, np.bool_)
        for index, name in enumerate(chosen):
            declaration = declarations.get(name)
            if declaration is not None and "\n" in declaration.format:
                extra[index] = declaration.format.count("\n")
            spans[index] = declaration is None or _holds_text(declaration)
        longest = max(map(len, encoded), default=0)
        indices = {name: index for index, name in enumerate(chosen)}
        return cls(chosen, declarations, indices, blob, offsets, slots, extra, spans, longest)

    def __len__(self) -> int:
        return len(self.names)

    def declaration(self, event: int) -> Declaration | None:
        """Return the declaration of an event; None if it has none."""
        return self.declarations.get(self.names[event])

    def match(
        self, data: bytes, start: Int64Array, stop: Int64Array
    ) -> tuple[NDArray[np.int32], Int64Array]:
        """Look up the event names at the beginning of data[start[i]:stop[i]], up to a blank.

        Returns the events (-1: none) and where their arguments begin.
        """
        event, begin = np.empty(len(start), np.int32), np.empty(len(start), np.int64)
        naming.match_names(
            data,
            self.blob,
            self.offsets.data,
            self.slots.data,
            self.longest,
            np.ascontiguousarray(start).data,
            np.ascontiguousarray(stop).data,
            event.data,
            begin.data,
        )
        return event, begin

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Parse the printed arguments data[begin[i]:stop[i]] of rows of one event.

        Returns a column per argument, and a mask of the rows that could be parsed.
        """
        rows = len(begin)
        compiled = self._compile(event)
        if compiled is None:
            return {}, np.zeros(rows, np.bool_)
        arrays = ArgumentArrays(compiled.arguments, rows)
        size = max(1, len(compiled.steps))
        work, numbers = np.zeros(1 + 2 * size, np.int64), np.zeros(size, np.uint64)
        if rows:
            parsing.parse_arguments(
                data,
                compiled.steps.reshape(-1).data,
                compiled.literals,
                begin.data,
                stop.data,
                arrays.values.reshape(-1).data,
                arrays.spans.reshape(-1).data,
                *(array.data for array in (arrays.ok, work, numbers)),
            )
        return arrays.columns(data, NULL.encode())

    def inverts(self, event: int) -> bool:
        """Return whether the printed arguments of an event can be parsed."""
        return self._compile(event) is not None

    def begins(self, event: int) -> bytes:
        """Return the text with which the printed arguments of an event begin, whatever they are."""
        compiled = self._compile(event)
        if compiled is None or not len(compiled.steps) or compiled.steps[0, 0] != Op.LITERAL:
            return b""
        return compiled.literals[: int(compiled.steps[0, 2])]

    def closes(self, event: int) -> bool:
        """Return whether the printed arguments of an event end with something else than a text."""
        compiled = self._compile(event)
        if compiled is None or not len(compiled.steps):
            return False
        return int(compiled.steps[-1, 0]) not in (Op.STRING, Op.CHARACTER)

    def _compile(self, event: int) -> _Compiled | None:
        if event not in self._compiled:
            declaration = self.declaration(event)
            plan = None if declaration is None else make_plan(declaration)
            self._compiled[event] = None if plan is None or plan.reason else _compile(plan)
        return self._compiled[event]
