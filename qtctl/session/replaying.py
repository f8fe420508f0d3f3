"""Reading a file that QEMU wrote earlier: a simple trace, or log text. Needs no guest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from qtctl.errors import QtctlError, UsageError
from qtctl.events.declarations import Declarations, parse_declarations
from qtctl.events.patterns import Selection
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.logtext import LogDecoder
from qtctl.records.printf import hex_arguments
from qtctl.records.simpletrace import Hole, SimpleDecoder, check_header, is_simple, read_names
from qtctl.records.table import EventTable
from qtctl.session.feeds.base import Loss
from qtctl.session.leasing import nothing_matched
from qtctl.session.sieve import Sieve

CHUNK_BYTES = 2 << 20
_SAMPLE_BYTES = 1 << 20
_SNIFF_BYTES = 4096
_FEWEST = 0.5
"""Share of a file's events that declarations must know to be taken for the right ones."""
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


class Replay:
    """One file, opened by its path; :meth:`step` until it gives None, then :attr:`problem`.

    Declarations are those of ``events_all``, else the installed QEMU's that fits best. ``notes``
    tell people what was taken for what.

    Raises:
        UsageError: the file cannot be read, or ``where`` is wrong.
        NothingMatched: ``selection`` picks no event.
        QtctlError: it is not a file of a kind that is read here.
    """

    def __init__(
        self,
        path: Path,
        *,
        events_all: Path | None = None,
        selection: Selection,
        where: str | None = None,
        text: bool = False,
        limit: int | None = None,
    ) -> None:
        self.path = path
        self.notes: list[str] = []
        self.taken = 0
        self.problem = ""
        self._fd = _opened(path)
        try:
            state = os.fstat(self._fd)
            self.size = state.st_size
            self._now_ns = state.st_mtime_ns
            head = os.pread(self._fd, _SAMPLE_BYTES, 0)
            self._simple = is_simple(head)
            if self._simple:
                check_header(head, str(path))
                names = read_names(head)
            else:
                _check_text(head, str(path))
                names = []
            declared = self._declarations(events_all, names, head).by_name
            every = list(dict.fromkeys([*names, *declared]))
            chosen = selection.pick(every) if selection else every
            if selection and not chosen:
                raise nothing_matched(selection, every, str(path))
            self.table = EventTable.build(every, declared)
            self.picked = tuple(chosen)
            self._sieve = Sieve(text=text, limit=limit)
            self._sieve.pick(self.table, self.picked, where)
        except BaseException:
            os.close(self._fd)
            raise
        self.counts = self._sieve.counts
        self._binary = SimpleDecoder(self.table)
        self._text = LogDecoder(self.table, clock=Clock.REALTIME)
        self._ended = False

    def _declarations(
        self, events_all: Path | None, names: list[str], sample: bytes
    ) -> Declarations:
        kind = f"simple trace, {len(names)} events" if self._simple else "log text"
        if events_all is not None:
            declared = _read(events_all)
            if names:
                known = sum(name in declared.by_name for name in names)
                self.notes.append(f"{kind}, {known} of them declared in {events_all}")
            return declared
        best, best_score, best_path = Declarations({}), 0, None
        for path in _installed():
            try:
                found = _read(path)
            except UsageError:
                continue
            if self._simple:
                score = sum(name in found.by_name for name in names)
            else:
                score = _readable(found, sample)
            if score > best_score:
                best, best_score, best_path = found, score, path
        enough = best_score > _FEWEST * len(names) if self._simple else best_score > 0
        if best_path is None or not enough:
            if not self._simple:
                raise QtctlError(
                    f"no record in the first {len(sample)} bytes of {self.path}: it is neither a "
                    "simple trace nor log text with events that are known here",
                    hint="--events-all FILE, the trace-events-all of the QEMU that wrote it",
                )
            self.notes.append(
                f"{kind}, and no trace-events-all that fits: arguments stay hex; "
                "try: --events-all FILE"
            )
            return Declarations({})
        of = f", {best_score} of them" if self._simple else ", events"
        self.notes.append(f"{kind}{of} declared in {best_path} (a guess; else: --events-all FILE)")
        if best_score < len(names):
            self.notes.append("that is of another build: arguments may be named or read wrong")
        return best

    def hex_arguments(self) -> dict[str, frozenset[str]]:
        """Return, by event, the arguments that QEMU prints in hex; pointers are among them."""
        declared = self.table.declarations
        return {n: hex_arguments(declared[n]) for n in self.picked if n in declared}

    def step(self) -> list[Batch | Loss] | None:
        """Read on; return what of it is shown, None at the end. Blocks shortly."""
        if self._ended or self._sieve.full():
            return None
        try:
            data = os.pread(self._fd, CHUNK_BYTES, self.taken)
        except OSError as error:
            self.problem = f"{self.path} cannot be read on from byte {self.taken}: {error.strerror}"
            data = b""
        self.taken += len(data)
        self._ended = not data
        items = self._simple_items(data) if self._simple else [self._text_batch(data)]
        shown = map(self._sieve.take, items)
        out = [item for item in shown if item is not None]
        if self._ended and not self.problem:
            self.problem = self._unread()
        return out

    def _text_batch(self, data: bytes) -> Batch:
        if data:
            return self._text.feed(data, now_ns=self._now_ns)
        return self._text.flush(now_ns=self._now_ns)

    def _simple_items(self, data: bytes) -> Iterator[Batch | Loss]:
        for item in self._binary.feed(data) if data else self._binary.flush():
            if isinstance(item, Hole):
                yield Loss(Backend.SIMPLE, item.count, item.time_ns or 0)
            else:
                yield item

    def _unread(self) -> str:
        decoder = self._binary
        if not decoder.unread or decoder.first_unread is None:
            return ""
        cut = decoder.first_unread + decoder.unread == self.taken
        return (
            f"{self.path} {'is cut off in a record' if cut else 'is garbled'} at byte "
            f"{decoder.first_unread}: {decoder.unread} of {self.taken} bytes could not be read, "
            f"{decoder.records} records were"
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _opened(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read {path}: {why}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{path} is not a plain file", hint="save it to a file first")
    return fd


def _check_text(head: bytes, where: str) -> None:
    """Refuse what cannot be text.

    Raises:
        QtctlError: it is empty, packed, or something else.
    """
    if not head:
        raise QtctlError(f"{where} is empty")
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed:
        raise QtctlError(f"{where} is packed with {packed}", hint="unpack it first")
    if b"\0" in head[:_SNIFF_BYTES]:
        raise QtctlError(
            f"{where} is neither a file of QEMU's simple backend nor log text",
            hint="qtctl replay --help",
        )


def _installed() -> list[Path]:
    """Return the trace-events-all of the QEMUs that are installed here."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    places = [Path(folder).parent / "share/qemu" for folder in folders if folder]
    places += [Path("/usr/share/qemu"), Path("/usr/local/share/qemu")]
    paths = (place / "trace-events-all" for place in dict.fromkeys(places))
    return [path for path in paths if path.is_file()]


def _read(path: Path) -> Declarations:
    try:
        return parse_declarations(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the declarations in {path}: {error}") from error


def _readable(declared: Declarations, sample: bytes) -> int:
    """Count the lines of a sample that are events with the arguments that are declared."""
    table = EventTable.build(None, declared.by_name)
    batch = LogDecoder(table).feed(sample + b"\n", now_ns=0)
    return sum(int(batch.arguments(event).ok.sum()) for event in batch.groups() if event >= 0)
