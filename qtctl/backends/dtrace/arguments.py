"""Arguments as uprobes fetch them, and as bpftrace printed them for qtctl 0.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qtctl.backends.dtrace import kernel
from qtctl.model import Argument, Kind
from qtctl.records.argument_arrays import CUT, READ, ArgumentArrays
from qtctl.records.batch import ArgumentReader
from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.event_table import EventTable

_NULL = b"\0"
_BPF_TEXT_BYTES = 63
"""Longest text that qtctl 0.1 had bpftrace read, which may then be cut."""


class ProbeArguments:
    """Reads arguments by the declarations of ``table``; see ``batch.ArgumentReader``.

    A record has its numbers first, in declared order, then its texts.
    """

    binary: ClassVar[bool] = True

    def __init__(self, table: EventTable) -> None:
        self._table = table

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "uprobe"}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        return self._read(data, event, begin, stop).columns(data, _NULL)

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return which of the rows have a text that the kernel did not fetch whole."""
        cut: BoolArray = self._read(data, event, begin, stop).ok == CUT
        return cut

    def _read(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> ArgumentArrays:
        declaration = self._table.declaration(event)
        if declaration is None:
            return ArgumentArrays((), len(begin))
        arguments = declaration.arguments
        arrays = ArgumentArrays(arguments, len(begin))
        kernel.read_fetched(
            data,
            arrays.numbers,
            arrays.texts,
            np.ascontiguousarray(begin).data,
            np.ascontiguousarray(stop).data,
            arrays.values.reshape(-1).data,
            arrays.spans.reshape(-1).data,
            arrays.ok.data,
        )
        _narrow(arrays, arguments)
        return arrays


def _narrow(arrays: ArgumentArrays, arguments: Sequence[Argument]) -> None:
    """Cut numbers off at their declared bits: what a register has above may be anything."""
    numbers = [argument for argument in arguments if argument.kind is not Kind.STRING]
    for values, argument in zip(arrays.values, numbers, strict=True):
        spare = np.uint64(64 - argument.bits)
        values <<= spare
        if argument.signed:
            values.view(np.int64)[:] >>= spare.view(np.int64)
        else:
            values >>= spare


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
            kernel.read_arguments(
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
        arrays.ok[(sizes == _BPF_TEXT_BYTES).any(axis=0) & (arrays.ok == READ)] = CUT
        _narrow(arrays, arguments)
        return arrays, out.tobytes() if arrays.texts else b""


def reader(table: EventTable, facts: Mapping[str, object]) -> ArgumentReader:
    """Return the reader for recorded rows."""
    if facts["arguments"] == "uprobe":
        return ProbeArguments(table)
    return BpfArguments(table, bytes.fromhex(str(facts["mark"])))
