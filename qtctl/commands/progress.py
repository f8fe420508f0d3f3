"""How much of a long file is read, on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time

from qtctl.commands.context import Context

PROGRESS_S = 0.5


class Progress:
    """Tells on stderr how much of ``size`` bytes is done, anew now and then.

    ``alone`` says that nothing else is shown meanwhile.
    """

    def __init__(self, context: Context, size: int, *, alone: bool) -> None:
        self._shows = context.err_style.terminal and not context.quiet and alone
        self._size = size
        self._due = time.monotonic() + PROGRESS_S
        self._shown = False

    def tell(self, done: int) -> None:
        """Be told how many bytes are done."""
        if self._shows and time.monotonic() >= self._due and self._size:
            self._due, self._shown = time.monotonic() + PROGRESS_S, True
            share = min(100, 100 * done // self._size)
            self._write(f"\r{share:3} % of {self._size >> 20} MiB")

    def clear(self) -> None:
        """Leave the line empty."""
        if self._shown:
            self._shown = False
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
