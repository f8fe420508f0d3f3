"""One line at the end of a terminal's stderr that is rewritten, and cleared for other text."""

from __future__ import annotations

import contextlib
import os
import sys

from qtctl.text.style import Style

REDRAW_S = 0.5
"""How long something takes before the line shows it, and how often it is rewritten."""


class StatusLine:
    """The line; ``style`` is that of stderr. Only a terminal that can rewrite it has one."""

    def __init__(self, style: Style) -> None:
        self.style = style.narrower(1) if style.terminal else style
        """In the last column a terminal may go on to the next line."""
        self._rewrites = style.terminal and os.environ.get("TERM") != "dumb"
        self._drawn = False

    def draw(self, line: str) -> None:
        """Rewrite the line; it must fit ``style.width``."""
        if self._rewrites:
            self._drawn = True
            self._write(f"\r{line}\x1b[K")

    def clear(self) -> None:
        """Empty the line, so that other text can be written."""
        if self._drawn:
            self._drawn = False
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
