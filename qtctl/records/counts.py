"""Counters of a stream or file."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from operator import add


@dataclass(slots=True)
class Counts:
    """Numbers of records: ``read`` = ``shown`` + ``filtered``; ``lost`` were never read.

    ``unknown_losses`` is the number of losses of unknown size, which are not in ``lost``.
    ``unread`` lines of a saved log hold an event that could not be read; they are in ``read``, too.
    """

    read: int = 0
    shown: int = 0
    filtered: int = 0
    lost: int = 0
    unknown_losses: int = 0
    unread: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(add, astuple(self), astuple(other)))
