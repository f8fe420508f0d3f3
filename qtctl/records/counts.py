"""Counters of a stream or file, and the declarations that a file was read with."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from operator import add
from typing import NamedTuple

from qtctl.text.style import counted


class Declared(NamedTuple):
    """Where the declarations of a file are from, and how well they fit a sample of it.

    ``guess``: of the installed QEMUs, these fit best; else the user gave them. ``fit`` of ``of``
    records (or what ``unit`` says) of the sample are as declared.
    """

    path: str
    guess: bool
    fit: int
    of: int
    unit: str = "record"

    @property
    def source(self) -> str:
        """Where they are from, in words."""
        guess = " (a guess: of the QEMUs installed here it fits best; else: --events-all FILE)"
        return f"declared in {self.path}{guess if self.guess else ''}"

    def words(self) -> str:
        """Return their source and fit in words."""
        if not self.of:
            return self.source
        fits = f"it fits {self.fit} of the first {counted(self.of, self.unit)}"
        other = ", and may be of another version, with arguments read wrong"
        return f"{self.source}; {fits}{other if self.fit < self.of else ''}"


@dataclass(slots=True)
class Counts:
    """Numbers of records: ``read`` = ``shown`` + ``filtered``; ``lost`` were never read.

    ``unknown_losses`` is the number of losses of unknown size, which are not in ``lost``.
    ``unread`` lines of a saved log hold an event that could not be read; they are in ``read``, too.
    ``declared``: how each file is read.
    ``own`` records of qtctl's own requests were left out and are in no other number;
    ``perhaps_own`` are in ``read``, for nothing shows whose request it was. ``guests`` are the sums
    of each, by name, where several are followed.
    """

    read: int = 0
    shown: int = 0
    filtered: int = 0
    lost: int = 0
    unknown_losses: int = 0
    unread: int = 0
    declared: tuple[Declared, ...] = ()
    own: int = 0
    perhaps_own: int = 0
    guests: tuple[tuple[str, Counts], ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(add, astuple(self), astuple(other)))
