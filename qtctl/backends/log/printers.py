"""Records as other programs print them, converted to lines that QEMU's log could have.

``perf script`` of QEMU's USDT probes (sdt_qemu:NAME, checked with perf 6.1), and QEMU's own
``scripts/simpletrace.py`` (2.8 to 11.1), which prints the time since the record before.
:data:`PRINTERS` has a row for each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from qtctl.events.declarations import Declarations
from qtctl.model import Argument, Backend, Declaration, Kind
from qtctl.records.batch import Batch
from qtctl.records.items import Loss

_SNIFF_BYTES = 1 << 16


class Printer(NamedTuple):
    """A program that prints records in a form of its own.

    ``line`` matches the begin of its lines; ``head`` returns what is put there, given the match
    and the time in ns of the line before. ``form`` is the printf form of an argument, given its
    place from 1.
    """

    name: str
    note: str
    line: re.Pattern[bytes]
    head: Callable[[re.Match[bytes], int], tuple[int, bytes]]
    form: Callable[[int, Argument], str]
    backend: Backend
    texts: bool = True
    """Whether texts are printed, not their addresses."""
    quoted: re.Pattern[bytes] | None = None
    """How texts are printed that Python wrote as bytes, ``b'...'``."""

    def declared(self, declared: Declarations) -> Declarations:
        """Return the declarations with the formats of this program."""
        return Declarations({n: self._declaration(d) for n, d in declared.by_name.items()})

    def _declaration(self, one: Declaration) -> Declaration:
        arguments = one.arguments
        if not self.texts:
            arguments = tuple(
                a._replace(kind=Kind.POINTER, bits=64) if a.kind is Kind.STRING else a
                for a in arguments
            )
        forms = [self.form(place, argument) for place, argument in enumerate(arguments, 1)]
        return one._replace(arguments=arguments, format=" ".join(forms))


def _of_perf(match: re.Match[bytes], _: int) -> tuple[int, bytes]:
    return 0, b"%b@%b:%b" % match.group("tid", "time", "name")


def _of_simpletrace(match: re.Match[bytes], before_ns: int) -> tuple[int, bytes]:
    sign = -1 if match["us"].startswith(b"-") else 1
    us, _, ns = match["us"].lstrip(b"-").partition(b".")
    time_ns = max(0, before_ns + sign * (int(us) * 1000 + int(ns)))
    stamp = b"%d.%09d" % divmod(time_ns, 10**9)
    return time_ns, b"qemu[%b]: @%b:%b" % (match["pid"], stamp, match["name"])


def _perf_form(place: int, argument: Argument) -> str:
    return f"arg{place}=%l{'d' if argument.signed else 'u'}"


def _simpletrace_form(_: int, argument: Argument) -> str:
    return argument.name + ("=%s" if argument.kind is Kind.STRING else "=0x%lx")


PRINTERS = (
    Printer(
        "perf script",
        "printed by perf script; texts are addresses there",
        re.compile(
            rb"^ *\S.{0,31}? +(?:\d+/)?(?P<tid>\d+) +(?:\[\d+\] +)?"
            rb"(?P<time>\d+\.(?:\d{9}|\d{6})): +"
            rb"(?:sdt_)?qemu:(?P<name>\w+?)(?:_\d+)?: \([0-9a-f]+\)",
            re.MULTILINE,
        ),
        _of_perf,
        _perf_form,
        Backend.DTRACE,
        texts=False,
    ),
    Printer(
        "simpletrace.py",
        "printed by simpletrace.py; times count from the first record",
        re.compile(
            rb"^(?P<name>\w+) (?P<us>-?\d{1,15}\.\d{3}) pid=(?P<pid>\d{1,10})(?= |\r?$)",
            re.MULTILINE,
        ),
        _of_simpletrace,
        _simpletrace_form,
        Backend.SIMPLE,
        # All but the scripts for Python 2 (up to 4.x) print the repr of texts.
        quoted=re.compile(
            rb"""(?<==)b(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")(?= \w+=|\r?$)""",
            re.MULTILINE,
        ),
    ),
)
_DROPPED = re.compile(
    r"@(?P<s>\d+)\.(?P<ns>\d{9}):Dropped_Event num_events_dropped=0x(?P<lost>[0-9a-f]{1,16})$"
)


class Converter:
    """Converts whole lines of a printer, one after the other, and finds the losses among them."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._before_ns = 0
        self._waiting: list[Loss] = []

    def convert(self, data: bytes) -> bytes:
        """Return the lines with the heads of log text."""
        data = self._printer.line.sub(self._head, data)
        quoted = self._printer.quoted
        return data if quoted is None else quoted.sub(_unquoted, data)

    def _head(self, match: re.Match[bytes]) -> bytes:
        self._before_ns, head = self._printer.head(match, self._before_ns)
        return head

    def losses(self, batch: Batch) -> Iterator[tuple[int, Loss]]:
        """Yield the losses in a batch of converted lines, each with the row that it stands before.

        As in the file that simpletrace.py read, that is the first record of a later time.
        """
        texts = np.flatnonzero(batch.event < 0).tolist() if b":Dropped_Event " in batch.data else []
        for row in [*texts, len(batch)]:
            for loss in [*self._waiting]:
                rows = np.flatnonzero(
                    (batch.event[:row] >= 0) & (batch.time_ns[:row] > loss.time_ns)
                )
                if len(rows):
                    self._waiting.remove(loss)
                    yield int(rows[0]), loss
            if row < len(batch) and (match := _DROPPED.search(batch.text(row))):
                time_ns = int(match["s"]) * 10**9 + int(match["ns"])
                self._waiting.append(Loss(batch.backend, int(match["lost"], 16), time_ns))

    def rest(self) -> list[Loss]:
        """Return the losses behind the last record."""
        rest, self._waiting = self._waiting, []
        return rest


def _unquoted(match: re.Match[bytes]) -> bytes:
    try:
        return bytes(ast.literal_eval(match[0].decode("ascii")))
    except (ValueError, SyntaxError):
        return match[0]


def printer_of(text: bytes) -> Printer | None:
    """Return the program whose lines most of the first lines are."""
    sample = text[:_SNIFF_BYTES]
    lines = sum(not line.startswith(b"#") for line in sample.splitlines())
    for printer in PRINTERS:
        if lines < 2 * sum(1 for _ in printer.line.finditer(sample)):
            return printer
    return None
