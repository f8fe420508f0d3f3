"""Arguments as bpftrace prints them by qtctl's program: numbers in hex, then escaped texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qtctl.backends.dtrace import kernel as bpf
from qtctl.backends.dtrace.probes import TEXT_BYTES
from qtctl.model import Kind
from qtctl.records.argument_arrays import CUT, READ, ArgumentArrays
from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.event_table import EventTable


@dataclass(frozen=True, slots=True)
class BpfArguments:
    """Reads arguments by the declarations of ``table``; events without one keep their text.

    A record has its numbers first, in declared order, then its texts, with ``mark`` between two.
    One with a text that may be cut is not read.
    """

    table: EventTable
    mark: bytes
    binary: ClassVar[bool] = False

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "bpf", "mark": self.mark.hex()}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        arrays, texts = self._read(data, event, begin, stop)
        return arrays.columns(texts)

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return which of the rows have a text that may be cut."""
        cut: BoolArray = self._read(data, event, begin, stop)[0].ok == CUT
        return cut

    def _read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[ArgumentArrays, bytes]:
        """Return the arguments, and the bytes of their texts."""
        declaration = self.table.declaration(event)
        if declaration is None:
            return ArgumentArrays((), len(begin)), b""
        arguments = declaration.arguments
        arrays = ArgumentArrays(arguments, len(begin))
        room = int((stop - begin).sum()) if arrays.texts else 0
        out = np.empty(room + 1, np.uint8)
        if len(begin):
            bpf.read_arguments(
                data,
                arrays.numbers,
                arrays.texts,
                self.mark,
                np.ascontiguousarray(begin).data,
                np.ascontiguousarray(stop).data,
                arrays.values.reshape(-1).data,
                arrays.spans.reshape(-1).data,
                out.data,
                arrays.ok.data,
            )
        sizes = arrays.spans[1::2] - arrays.spans[::2]
        arrays.ok[(sizes == TEXT_BYTES).any(axis=0) & (arrays.ok == READ)] = CUT
        numbers = [argument for argument in arguments if argument.kind is not Kind.STRING]
        for values, argument in zip(arrays.values, numbers, strict=True):
            # Registers have 64 bits: what is above the declared type's may be anything.
            spare = np.uint64(64 - argument.bits)
            values <<= spare
            if argument.signed:
                values.view(np.int64)[:] >>= spare.view(np.int64)
            else:
                values >>= spare
        return arrays, out.tobytes() if arrays.texts else b""


def reader(table: EventTable, facts: Mapping[str, object]) -> BpfArguments:
    """Return the reader for recorded rows."""
    return BpfArguments(table, bytes.fromhex(str(facts["mark"])))
