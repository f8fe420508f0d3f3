"""Source: the standard output of a child process, read without blocking. Knows no format."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import subprocess

_READ_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20
_ENDED_POLL_S = 0.02


class ChildPipe:
    """The read end of a pipe that a child writes; ``ended`` once it was read to its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.ended = False
        self._fd = process.stdout.fileno()
        os.set_blocking(self._fd, False)
        with contextlib.suppress(OSError):  # more than a user's share: the usual size will do
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self) -> bytes:
        """Return what was written since the last call, at most about 256 KiB."""
        chunks: list[bytes] = []
        size = 0
        while size < _READ_BYTES and not self.ended:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            self.ended = not data
            chunks.append(data)
            size += len(data)
        return b"".join(chunks)

    async def wait(self, timeout_s: float) -> None:
        """Wait until there is more to read, for at most ``timeout_s``."""
        if self.ended:
            await asyncio.sleep(min(timeout_s, _ENDED_POLL_S))
            return
        await wait_readable(self._fd, timeout_s)


async def wait_readable(fd: int, timeout_s: float) -> None:
    """Wait until a file can be read without blocking, for at most ``timeout_s``."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), timeout_s)
    finally:
        loop.remove_reader(fd)
