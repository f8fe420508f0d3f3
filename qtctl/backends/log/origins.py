"""Which guest, process and run the lines of saved text are of: what their heads tell, as columns.

A run begins where libvirt wrote ``starting up`` (1.0 to 11; it keeps all runs of a guest in one
file), and with another boot of the machine (journalctl of systemd 252).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.log.heads import LABELS, HeadSpan, Known, LineHead, read_head
from qtctl.records.batch import Batch
from qtctl.records.columns import Int64Array
from qtctl.records.origins import Origin

_MOST_PID = (1 << 31) - 1
_KEPT = 1 << 12
"""How many origins are kept."""
_MARKS = (b": starting up", b": shutting down", b"-- Boot ", b"-- Reboot --")
_BOUNDS = re.compile(
    rb"^(?P<head>[^\n]*?)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}: "
    rb"(?:starting up(?: libvirt version: |\r?$)|(?P<end>shutting down)(?:, reason=|\r?$))"
    rb"|^-- (?:Boot (?P<boot>[0-9a-f]{32})|Reboot) --\r?$",
    re.MULTILINE,
)

Cells: TypeAlias = NDArray[np.uint8]
_Numbers: TypeAlias = NDArray[np.int32]


def cells_of(data: bytes, start: Int64Array, span: HeadSpan) -> Cells:
    """Return data[start[i] + span] as rows of bytes."""
    text = np.frombuffer(data, np.uint8)
    cells: Cells = text[(start + span.begin)[:, None] + np.arange(span.stop - span.begin)]
    return cells


class RunBound(NamedTuple):
    """A line, at ``offset``, with which a run of ``guest`` (None: of all) begins or ends.

    ``boot`` is the machine's boot from here on; two machines' may alternate.
    """

    offset: int
    guest: str | None
    begins: bool
    boot: bytes | None = None


def run_bounds(data: bytes) -> Iterator[RunBound]:
    """Yield the lines that bound runs; one behind a head, of what that names."""
    if not any(mark in data for mark in _MARKS):
        return
    for match in _BOUNDS.finditer(data):
        before = match["head"] or b""
        head = read_head(before)
        if head.known is Known.WHOLLY:
            guest = head.guest and _text(before[head.guest.begin : head.guest.stop])
            yield RunBound(match.start(), guest, match["end"] is None, match["boot"])


class Origins:
    """Numbers the origins of records, and counts the runs."""

    def __init__(self) -> None:
        self._numbers = {Origin(): 0}
        self._runs = Counter[str | None]()
        self._boots: dict[bytes, int] = {}

    def label(self, data: bytes, start: Int64Array, head: LineHead) -> _Numbers | int:
        """Return the number of the origin of lines with the same head; 0 if it tells nothing."""
        spans = {name: span for name in LABELS if (span := getattr(head, name)) is not None}
        if not spans:
            return 0
        cells = np.hstack([cells_of(data, start, span) for span in spans.values()])
        if (cells == cells[0]).all():
            return self._number(_origin(cells[0].tobytes(), spans))
        size = cells.shape[1]
        texts, codes = np.unique(
            np.ascontiguousarray(cells).view(f"S{size}").reshape(-1), return_inverse=True
        )
        found = [self._number(_origin(text.ljust(size, b"\0"), spans)) for text in texts.tolist()]
        return np.array(found, np.int32)[codes]

    def set(self, batch: Batch, origin: _Numbers, bounds: Mapping[int, RunBound]) -> Batch:
        """Return a batch whose rows have these origins, each in its run; ``bounds`` are by row."""
        at = 0
        for row, bound in bounds.items():
            self._count_runs(origin[at:row])
            at = row
            if bound.boot is None:
                self._runs[bound.guest] += bound.begins
            else:
                number = self._boots.setdefault(bound.boot, len(self._boots) + 1)
                self._runs[None] = number
        self._count_runs(origin[at:])
        if not origin.any():
            return batch
        used, codes = np.unique(origin, return_inverse=True)
        every = list(self._numbers)
        made = replace(
            batch,
            origin=codes.astype(np.int32),
            origins=tuple(every[number] for number in used.tolist()),
        )
        if len(self._numbers) > _KEPT:
            self._numbers = {Origin(): 0}
        return made

    def _count_runs(self, origin: _Numbers) -> None:
        """Set the present run in the origins of rows, in place."""
        if not any(self._runs.values()) or not len(origin):
            return
        used, codes = np.unique(origin, return_inverse=True)
        every = list(self._numbers)
        origin[:] = np.array([self._number(self._in_run(every[n])) for n in used.tolist()])[codes]

    def _in_run(self, one: Origin) -> Origin:
        run = self._runs[None] + (self._runs[one.guest] if one.guest else 0)
        return one._replace(run=run or None)

    def _number(self, one: Origin) -> int:
        return self._numbers.setdefault(one, len(self._numbers))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _origin(text: bytes, spans: dict[str, HeadSpan]) -> Origin:
    """Return the origin that the bytes of the ``spans`` tell, one behind the other."""
    values: dict[str, int | str | None] = {}
    at = 0
    for name, span in spans.items():
        part = text[at : at + span.stop - span.begin]
        at += len(part)
        values[name] = _text(part)
        if name == "pid":
            values[name] = int(part) if int(part) <= _MOST_PID else None
    return Origin(**values)  # type: ignore[arg-type]
