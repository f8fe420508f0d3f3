"""Which rows of the scroll-back have something: searched in the background, newest first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.text.cells import plain
from qtctl.ui.scrollback import Note, Stretch

_PIECE = 4096
"""So many records are searched at once: a key that is typed meanwhile waits no longer."""
_NONE = np.empty(0, np.int64)

Holds: TypeAlias = Callable[[Batch], BoolArray]
"""Returns the mask of the records for which something holds."""


class Finder:
    """Finds the rows for which ``holds``; notes are found by ``in_note``.

    Call :meth:`step` until it returns False, in a thread if need be.
    """

    def __init__(self, holds: Holds, in_note: Callable[[Note], bool]) -> None:
        self._holds = holds
        self._in_note = in_note
        self._found: WeakKeyDictionary[Stretch, Int64Array] = WeakKeyDictionary()

    def step(self, stretches: Sequence[Stretch], records: int = _PIECE) -> bool:
        """Search the newest stretches that were not, ``records`` at least; return if any was."""
        done = 0
        for stretch in reversed(stretches):
            if stretch not in self._found:
                self._found[stretch] = self._search(stretch)
                done += len(stretch)
                if done >= records:
                    return True
        return bool(done)

    def _search(self, stretch: Stretch) -> Int64Array:
        content = stretch.content
        if isinstance(content, Note):
            return np.zeros(1, np.int64) if self._in_note(content) else _NONE
        parts = []
        for begin in range(0, len(content), _PIECE):
            # A selection of its own: the arguments that are parsed for it are not kept.
            piece = content.select(slice(begin, begin + _PIECE))
            parts.append(np.flatnonzero(self._holds(piece)) + begin)
        return np.concatenate(parts)

    def rows(self, stretch: Stretch) -> Int64Array:
        """Return the found rows of a stretch, from 0; none if it was not searched yet."""
        return self._found.get(stretch, _NONE)

    def count(self, stretches: Sequence[Stretch]) -> tuple[int, int]:
        """Return how many rows were found, and how many of all were searched."""
        searched = [stretch for stretch in stretches if stretch in self._found]
        return sum(len(self._found[one]) for one in searched), sum(map(len, searched))


class Around:
    """Shows the found rows of ``stretches``, and ``context`` rows before and behind each."""

    def __init__(self, finder: Finder, stretches: Sequence[Stretch], context: int) -> None:
        self._finder = finder
        self._stretches = stretches
        self._context = context
        self._places = {
            stretch: place for place, stretch in enumerate(stretches if context else ())
        }

    def __call__(self, stretch: Stretch) -> Int64Array:
        """Return the shown rows of a stretch, from 0."""
        rows = self._finder.rows(stretch)
        if not self._context:
            return rows
        place, parts, offset = self._places[stretch], [rows], 0
        for before in reversed(self._stretches[:place]):
            if -offset >= self._context:
                break
            offset -= len(before)
            parts.append(self._finder.rows(before) + offset)
        offset = len(stretch)
        for behind in self._stretches[place + 1 :]:
            if offset >= len(stretch) + self._context:
                break
            parts.append(self._finder.rows(behind) + offset)
            offset += len(behind)
        spread = np.arange(-self._context, self._context + 1)
        near = np.unique(np.concatenate(parts)[:, None] + spread)
        return near[(near >= 0) & (near < len(stretch))]


def text_finder(text: str, lines: Callable[[Batch], Sequence[str]]) -> Finder:
    """Return a finder of a text, ignoring case; ``lines`` returns the text of records."""
    wanted = text.lower()

    def holds(batch: Batch) -> BoolArray:
        found = (wanted in line.lower() for line in lines(batch))
        return np.fromiter(found, np.bool_, len(batch))

    return Finder(holds, lambda note: wanted in plain(note.text).lower())
