"""Reading files that were written earlier: the interface of each kind, and plain files."""

from __future__ import annotations

import itertools
import os
import shlex
import stat
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from qtctl.errors import UsageError
from qtctl.events.patterns import near
from qtctl.model import Backend
from qtctl.records.counts import Declared
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss

CHUNK_BYTES = 1 << 19
"""Larger ones are slower: each is fresh memory, which the kernel has to clear."""
SAMPLE_BYTES = 1 << 20
_LISTED = 1000
"""So many files of a folder are searched for one that is called alike."""


class Fit(IntEnum):
    """How well a file fits a kind; the kind that it fits best reads it."""

    NO = 0
    TEXT = 1
    """It is none of the other kinds, and may be text of this one."""
    LIKELY = 2
    CERTAIN = 3


class Rupture(IntEnum):
    """What is between two parts of a file."""

    NO = 0
    ENDED = 1
    """Another file: the last line of the first ended there."""
    LOST = 2
    """Bytes that are lost."""


class SavedFile(Protocol):
    """One file that was opened. ``read`` blocks shortly."""

    table: EventTable
    """The events it may hold."""
    notes: list[str]
    """Sentences for the user on how it is read."""
    declared: Declared | None
    """Which declarations it is read with; None if it holds its own."""

    @property
    def size(self) -> int:
        """Bytes there are to read; 0 where that cannot be known."""

    @property
    def taken(self) -> int:
        """Bytes read so far."""

    @property
    def unread(self) -> int:
        """How many lines so far have an event where a record should be, and could not be read."""

    @property
    def unread_lines(self) -> Sequence[str]:
        """The first of them."""

    @property
    def problem(self) -> str:
        """Which part could not be read, once :meth:`read` has returned None; empty if none."""

    def read(self) -> list[Item] | None:
        """Read and decode the next part; None at the end."""

    def close(self) -> None:
        """Close it."""


class SavedPart(Protocol):
    """``saved``: reading a file or folder that the backend wrote."""

    def fit(self, path: Path, head: bytes | None) -> Fit:
        """Return how well a file fits, by its first bytes; ``head`` is None for a folder."""

    def open_saved(self, path: Path, file: PlainFile | None, events_all: Path | None) -> SavedFile:
        """Open what :meth:`fit` accepted; ``file`` is None for a folder.

        Raises:
            QtctlError: it cannot be read, or is damaged at its begin.
        """


class PlainFile:
    """A plain file that is read from its begin to its end, as far as it went when it was opened.

    ``fd`` is a descriptor of it, closed with it; ``path`` is only its name then.
    Those of the kernel have no size (0), and are read as far as they go.

    Raises:
        UsageError: it cannot be read, or is no plain file.
    """

    waits = False
    """Whether more may come although :meth:`more` returned nothing."""
    broken = Rupture.NO
    """What stands before the bytes that :meth:`more` returned; who handles it sets it back."""

    def __init__(self, path: Path, fd: int | None = None) -> None:
        self.path = path
        self.taken = 0
        self.fault = ""
        self._fd = _opened(path) if fd is None else fd
        state = os.fstat(self._fd)
        self.size = state.st_size
        self._modified_ns = state.st_mtime_ns

    @property
    def modified_ns(self) -> int:
        """The time of records without one: when it was written to last."""
        return self._modified_ns

    def at(self, offset: int, size: int) -> bytes:
        """Return bytes from somewhere; fewer, and a ``fault``, where they cannot be read."""
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            self.fault = f"{self.path} cannot be read on from byte {offset}: {error.strerror}"
            return b""

    def more(self, *, lines: bool = False) -> bytes:
        """Return the next bytes; none at the end. With ``lines`` the last line is a whole one."""
        room = max(0, self.size - self.taken) if self.size else CHUNK_BYTES
        data = self.at(self.taken, min(CHUNK_BYTES, room))
        self.taken += len(data)
        if lines and data and self.taken == self.size and data[-1:] != b"\n":
            rest = self.at(self.taken, CHUNK_BYTES)  # what was written meanwhile
            rest = rest[: rest.find(b"\n") + 1]
            self.taken += len(rest)
            data += rest
        if not data and self.taken < self.size and not self.fault:
            self.fault = (
                f"{self.path} was cut while it was read: it ends at byte {self.taken} now, and had "
                f"{self.size}"
            )
        return data

    def whole(self) -> PlainFile:
        """Return a file of which any part can be read."""
        return self

    def grew(self) -> bool:
        """Return whether it was written to since it was opened."""
        return os.fstat(self._fd).st_size > self.size

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class SavedPlain:
    """A :class:`SavedFile` that is a plain file; a kind implements ``read`` or :meth:`_decode`."""

    declared: Declared | None = None
    unread = 0
    unread_lines: Sequence[str] = ()
    _backend = Backend.LOG
    _lines = True
    """Whether the file holds lines: see :meth:`PlainFile.more`."""

    def __init__(self, file: PlainFile) -> None:
        self.size = file.size
        self._file = file
        self._ended = False

    def read(self) -> list[Item] | None:
        """Read and decode the next part; None at the end."""
        if self._ended:
            return None
        data = self._file.more(lines=self._lines)
        items = self._break() if self._file.broken else []
        if not data and self._file.waits:
            return [*items, *self._release()]
        self._ended = not data
        return [*items, *self._decode(data)]

    def _release(self) -> list[Item]:
        """Decode what was kept until the next line, which has not come for a moment."""
        return []

    def _break(self) -> list[Item]:
        """Decode what is kept as if the file ended here."""
        self._ended = True
        items = self._decode(b"")
        self._ended = False
        if self._file.broken is Rupture.LOST:
            items.append(Loss(self._backend, None, self._file.modified_ns))
        self._file.broken = Rupture.NO
        return items

    def _decode(self, data: bytes) -> list[Item]:
        """Decode the next bytes; there are none at the end of the file."""
        raise NotImplementedError

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._file.taken

    @property
    def problem(self) -> str:
        """Which part could not be read; empty if none."""
        return self._file.fault

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _opened(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read {path}: {why}", hint=_alike(path)) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(
            f"{path} is not a plain file", hint=f"qtctl replay - < {shlex.quote(str(path))}"
        )
    return fd


def _alike(path: Path) -> str:
    """Return a file beside a missing one that is called alike; empty if there is none."""
    try:
        beside = [] if path.exists() else path.parent.iterdir()
        names = [one.name for one in itertools.islice(beside, _LISTED)]
    except (OSError, ValueError):
        names = []
    return next((str(path.with_name(name)) for name in near(path.name, names, 1)), "")
