"""A file of text that is read while it grows, is truncated and is rotated."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from asyncinotify import Inotify, Mask

from qtctl.backends.saved import PlainFile, Rupture
from qtctl.backends.splitting import SPAN_S
from qtctl.backends.spool.growing import GrowingFile, Skipped
from qtctl.errors import UsageError

_WAIT_S = 0.2


class FollowedFile(PlainFile):
    """A file that is read on as it grows, and the next one of its name once that holds something.

    A file that was renamed is read on, too: its writer may not know. Of one that was truncated the
    rest is lost, and it is read from its begin. It ends when ``stop`` is set.

    Raises:
        UsageError: it cannot be read, or is no plain file.
    """

    def __init__(self, path: Path, stop: threading.Event) -> None:
        super().__init__(path)
        self._stop = stop
        self.size = 0
        self._current = GrowingFile(self._place, offset=0)
        self._older: GrowingFile | None = None
        self._last: GrowingFile | None = None
        self._items: list[bytes | Skipped] = []
        self._came = False
        self._inotify = Inotify(sync_timeout=_WAIT_S)

    @property
    def _place(self) -> Path:
        """Where the file that was opened is, whatever its name is now."""
        return Path(f"/proc/self/fd/{self._fd}")

    @property
    def modified_ns(self) -> int:
        """The time at which its bytes are read."""
        return time.time_ns()

    def at(self, offset: int, size: int) -> bytes:
        """Return bytes from somewhere; wait for some if none are there."""
        while not (data := super().at(offset, size)) and not self.fault and not self._stop.is_set():
            self._wait()
        return data

    def more(self, *, lines: bool = False) -> bytes:
        """Return the next bytes; none if none came for a moment."""
        self.waits = not self._stop.is_set()
        if not self._items and not self._read():
            self._inotify.sync_timeout = SPAN_S if self._came else _WAIT_S
            self._wait()
            self._read()
        self._came = bool(self._items)
        if not self._items:
            return b""
        item = self._items.pop(0)
        if isinstance(item, Skipped):
            self.broken = Rupture.LOST
            return b""
        self.taken += len(item)
        return item

    def _read(self) -> bool:
        """Read from the file that was renamed, then from the one of this name."""
        if self._rotated() and not self._current.behind():
            with contextlib.suppress(OSError):
                current = GrowingFile(self.path, offset=0)
                if self._older is not None:
                    self._older.close()
                self._older, self._current = self._current, current
        for one in filter(None, (self._older, self._current)):
            if items := one.read():
                if self._last not in (None, one):
                    self.broken = self.broken or Rupture.ENDED
                self._items, self._last = items, one
                return True
        return False

    def _rotated(self) -> bool:
        """Return whether another file has this name now, and holds something."""
        with contextlib.suppress(OSError):
            state = self.path.stat()
            return bool(state.st_size) and (state.st_dev, state.st_ino) != self._current.inode()
        return False

    def _wait(self) -> None:
        """Wait until it grows, for a moment at most: the time until a rotation is noticed."""
        with contextlib.suppress(OSError):
            self._inotify.add_watch(self.path, Mask.MODIFY | Mask.ONESHOT)
        if not self._current.behind():
            self._inotify.sync_get()

    def whole(self) -> PlainFile:
        """Raise an error: only text can be followed.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.path} is no text, which can be followed", hint="without --follow")

    def close(self) -> None:
        """Close all that is open."""
        self._inotify.close()
        for one in filter(None, (self._older, self._current)):
            one.close()
        super().close()
