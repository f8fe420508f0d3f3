"""Reading a file ahead, in a thread: it is decoded while its records are used."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from typing import NamedTuple

from qtctl.backends.saved import SavedFile
from qtctl.records.items import Item

_STEPS = 4
"""So many steps of a file wait to be used, each of about a megabyte."""


class _Decoded(NamedTuple):
    """What a step has read (None: the end, or an error), and how far the file was read then."""

    items: list[Item] | None
    taken: int
    unread: int
    unread_lines: Sequence[str]
    error: BaseException | None = None


class ReadAhead:
    """A :class:`SavedFile` that a thread reads some steps ahead, while it has one of ``turns``.

    The steps are the same, in the same order; an error is raised at its place.
    """

    def __init__(self, file: SavedFile, turns: threading.Semaphore) -> None:
        self.table, self.notes, self.declared = file.table, file.notes, file.declared
        self.size, self.taken, self.unread = file.size, file.taken, file.unread
        self.unread_lines: Sequence[str] = ()
        self._file = file
        self._turns = turns
        self._steps: queue.Queue[_Decoded] = queue.Queue(_STEPS)
        self._thread = threading.Thread(target=self._run, daemon=True, name="qtctl-ahead")
        self._begun = self._ended = False
        self._closed = threading.Event()

    @property
    def problem(self) -> str:
        """Which part could not be read, once :meth:`read` has returned None; empty if none."""
        return self._file.problem

    def read(self) -> list[Item] | None:
        """Return the next part, decoded; None at the end."""
        if self._ended or self._closed.is_set():
            return None
        if not self._begun:
            self._begun = True
            self._thread.start()
        step = self._steps.get()
        self._ended = step.items is None
        if self._closed.is_set():
            return None
        if step.error is not None:
            raise step.error
        self.taken, self.unread, self.unread_lines = step.taken, step.unread, step.unread_lines
        return step.items

    def _run(self) -> None:
        step = None
        while not self._closed.is_set() and (step is None or step.items is not None):
            items, error = None, None
            try:
                with self._turns:
                    items = self._file.read()
            except BaseException as raised:  # raised by read()
                error = raised
            file = self._file
            step = _Decoded(items, file.taken, file.unread, tuple(file.unread_lines), error)
            self._steps.put(step)

    def close(self) -> None:
        """End the thread, and close the file; a :meth:`read` that waits returns None."""
        self._closed.set()
        while self._begun and self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._steps.get_nowait()
            self._thread.join(0.01)
        with contextlib.suppress(queue.Full):
            self._steps.put_nowait(_Decoded(None, self.taken, self.unread, self.unread_lines))
        self._file.close()
