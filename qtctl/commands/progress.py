"""How a long job goes, on one line of a terminal's stderr."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtctl.commands.context import Context

if TYPE_CHECKING:
    from qtctl.records.items import Item
    from qtctl.session.replay import Replay

PROGRESS_S = 0.5


class StatusLine:
    """A line that is written anew now and then, on a terminal, unless ``-q``.

    ``alone`` says that nothing else is shown meanwhile.
    """

    def __init__(self, context: Context, *, alone: bool = True) -> None:
        # A console draws on the terminal itself.
        alone = alone and context.owner is None
        self._shows = context.err_style.terminal and not context.quiet and alone
        self._due = time.monotonic() + PROGRESS_S
        self._shown = False

    def tell(self, text: Callable[[], str]) -> None:
        """Show ``text()``, which is safe to print, if it is time to."""
        if self._shows and time.monotonic() >= self._due:
            self._due, self._shown = time.monotonic() + PROGRESS_S, True
            self._write(f"\r{text()}\x1b[K")

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


class Progress:
    """Tells how much of ``size`` bytes (0: not known) is done, as a :class:`StatusLine`."""

    def __init__(self, context: Context, size: int, *, alone: bool) -> None:
        self._line = StatusLine(context, alone=alone)
        self._size = size

    def tell(self, done: int) -> None:
        """Be told how many bytes are done."""
        self._line.tell(lambda: self._words(done))

    def _words(self, done: int) -> str:
        if not self._size:
            return f"{done >> 20} MiB so far"
        return f"{min(100, 100 * done // self._size):3} % of {self._size >> 20} MiB"

    def clear(self) -> None:
        """Leave the line empty."""
        self._line.clear()


async def read_through(context: Context, trace: Replay, take: Callable[[Item], None]) -> None:
    """Let ``take`` have all of a file, in a thread, with progress, until told to stop."""

    def step() -> bool:
        items = trace.step()
        for item in items or ():
            take(item)
        return items is not None

    progress = Progress(context, trace.size, alone=True)
    try:
        while not context.stop.is_set() and await asyncio.to_thread(step):
            progress.tell(trace.taken)
    finally:
        progress.clear()
