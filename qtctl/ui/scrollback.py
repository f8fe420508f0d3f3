"""The last lines of a stream, to pause, scroll, search and filter. Pure.

Lines are safe to print and may contain colours, which searching ignores.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence

from prompt_toolkit.utils import get_cwidth

LINES = 5000
_LONGEST = 2000
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def plain(line: str) -> str:
    """Return a line without its colours."""
    return _COLOUR.sub("", line)


def holds(line: str, text: str) -> bool:
    """Return whether a line contains a text, ignoring case."""
    return text.lower() in plain(line).lower()


class Scrollback:
    """The last ``LINES`` lines; while frozen, the shown lines stay.

    ``only`` hides lines without this text.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES)
        self._frozen: Sequence[str] | None = None
        self._below = 0
        self.only = ""
        self.paused = False

    def add(self, lines: Iterable[str]) -> None:
        """Add lines at the end, also while frozen."""
        self._lines.extend(_bounded(line) for line in lines)

    def clear(self) -> None:
        """Remove all lines."""
        self._lines.clear()
        self._frozen = [] if self.paused else None
        self._below = 0

    def pause(self, paused: bool) -> None:
        """Freeze the shown lines, or go on with the newest."""
        self.paused = paused
        self._below = 0
        self._frozen = tuple(self._lines) if paused else None

    @property
    def scrolled(self) -> bool:
        """Whether it is scrolled back."""
        return self._below > 0

    def scroll(self, up: int) -> None:
        """Scroll ``up`` lines back, or forward if it is negative."""
        if self._frozen is None and up > 0:
            self._frozen = tuple(self._lines)
        self._below = min(max(0, self._below + up), max(0, len(self._shown()) - 1))
        if not self._below and not self.paused:
            self._frozen = None

    def find(self, text: str, up: bool = True) -> bool:
        """Scroll to the nearest line with ``text`` above the lowest shown one, or below it."""
        shown = self._shown()
        here = len(shown) - 1 - self._below
        places = range(here - 1, -1, -1) if up else range(here + 1, len(shown))
        for place in places:
            if holds(shown[place], text):
                self.scroll(here - place)
                return True
        return False

    def window(self, rows: int, width: int) -> Sequence[str]:
        """Return the lines that fit on ``rows`` rows of ``width`` columns when wrapped."""
        shown = self._shown()
        begin = end = len(shown) - self._below
        left = rows
        while begin > 0 and (left := left - _height(shown[begin - 1], width)) >= 0:
            begin -= 1
        while not begin and end < len(shown) and (left := left - _height(shown[end], width)) >= 0:
            end += 1
        return shown[begin:end] or shown[max(0, end - 1) : end]

    def _shown(self) -> Sequence[str]:
        lines = self._lines if self._frozen is None else self._frozen
        if not self.only:
            return tuple(lines) if isinstance(lines, deque) else lines
        return [line for line in lines if holds(line, self.only)]


def _height(line: str, width: int) -> int:
    return max(1, -(-get_cwidth(plain(line)) // width))


def _bounded(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{plain(line)[:_LONGEST]} ..."
