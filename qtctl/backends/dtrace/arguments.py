"""Arguments as bpftrace prints them by qtctl's program: numbers in hex, then escaped texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.dtrace import kernel as bpf
from qtctl.model import Argument, Kind
from qtctl.records.columns import BoolArray, Column, Int64Array, StringColumn
from qtctl.records.event_table import EventTable


@dataclass(frozen=True, slots=True)
class BpfArguments:
    """Reads arguments: those of ``declared``, by event; other events keep their text.

    A record has its numbers first, in declared order, then its texts, with ``mark`` between two.
    """

    declared: Mapping[int, Sequence[Argument]]
    mark: bytes
    binary: ClassVar[bool] = False

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "bpf", "mark": self.mark.hex()}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        rows = len(begin)
        arguments = self.declared.get(event)
        if arguments is None:
            return {}, np.zeros(rows, np.bool_)
        texts = sum(argument.kind is Kind.STRING for argument in arguments)
        values = np.zeros((len(arguments) - texts, rows), np.uint64)
        spans = np.zeros((2 * texts, rows), np.int64)
        room = int((stop - begin).sum()) if texts else 0
        out, ok = np.empty(room + 1, np.uint8), np.zeros(rows, np.uint8)
        if rows:
            bpf.read_arguments(
                data,
                len(arguments) - texts,
                texts,
                self.mark,
                np.ascontiguousarray(begin).data,
                np.ascontiguousarray(stop).data,
                values.reshape(-1).data,
                spans.reshape(-1).data,
                out.data,
                ok.data,
            )
        good = ok.view(np.bool_)
        values[:, ~good] = 0
        spans[:, ~good] = 0
        unescaped = out.tobytes() if texts else b""
        columns: dict[str, Column] = {}
        number = text = 0
        for argument in arguments:
            if argument.kind is Kind.STRING:
                edges = spans[2 * text], spans[2 * text + 1]
                columns[argument.name] = StringColumn.from_spans(unescaped, *edges)
                text += 1
            else:
                columns[argument.name] = _narrowed(values[number], argument)
                number += 1
        return columns, good


def _narrowed(values: NDArray[np.uint64], argument: Argument) -> Column:
    """Return 64-bit register contents as the declared type has them."""
    spare = np.uint64(64 - argument.bits)
    high = values << spare
    return (high.view(np.int64) >> spare.view(np.int64)) if argument.signed else high >> spare


def reader(table: EventTable, facts: Mapping[str, object]) -> BpfArguments:
    """Return the reader for recorded rows."""
    declared = {
        number: one.arguments
        for number in range(len(table))
        if (one := table.declaration(number)) is not None
    }
    return BpfArguments(declared, bytes.fromhex(str(facts["mark"])))
