"""Writing to a terminal without ever waiting for it."""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable

_FULL_BYTES = 1 << 16
"""With more than this unwritten, the terminal is not ready for records."""
_END_S = 1.0
_DRAIN_POLL_S = 0.01


class Terminal:
    """Buffers text for the terminal behind ``fd``, and writes it as the terminal takes it.

    The terminal is opened again, so that non-blocking mode does not affect other programs that
    share ``fd``. ``gone`` is called when the terminal is gone.
    """

    def __init__(self, fd: int, gone: Callable[[], None]) -> None:
        self._shared = fd
        self._gone = gone
        self.encoding = os.device_encoding(fd) or "utf-8"
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self._fd = os.open(f"/proc/self/fd/{fd}", flags)
        self._loop = asyncio.get_running_loop()
        self._left = bytearray()
        self._writes = False
        self._dead = False

    def size(self) -> tuple[int, int]:
        """Return columns and rows; 80 and 24 where they are unknown."""
        try:
            columns, rows = os.get_terminal_size(self._shared)
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def ready(self) -> bool:
        """Return whether the terminal keeps up."""
        return len(self._left) < _FULL_BYTES

    async def drain(self, timeout_s: float) -> None:
        """Wait until all is written, at most ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self._left and time.monotonic() < deadline:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(_DRAIN_POLL_S)

    def write(self, text: str) -> int:
        """Write text, or buffer it until there is room."""
        if not self._dead:
            self._left += text.encode(self.encoding, "replace")
            self._push()
        return len(text)

    def _push(self) -> None:
        try:
            while self._left:
                del self._left[: os.write(self._fd, self._left)]
        except BlockingIOError:
            pass
        except OSError:
            self._dead = True
            self._left.clear()
            self._gone()
        if bool(self._left) != self._writes:
            self._writes = bool(self._left)
            if self._writes:
                self._loop.add_writer(self._fd, self._push)
            else:
                self._loop.remove_writer(self._fd)

    def flush(self) -> None:
        """Do nothing: text is written as soon as possible."""

    def close(self) -> None:
        """Write the rest, for at most a second, and close."""
        deadline = time.monotonic() + _END_S
        while self._left and (left_s := deadline - time.monotonic()) > 0:
            select.select([], [self._fd], [], left_s)
            self._push()
        if self._writes:
            self._loop.remove_writer(self._fd)
        os.close(self._fd)
