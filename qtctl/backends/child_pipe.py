"""Wait for a file that a kernel or a child process fills."""

from __future__ import annotations

import asyncio
import contextlib


async def wait_readable(fd: int, timeout_s: float) -> None:
    """Wait until a file can be read without blocking, for at most ``timeout_s``."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), timeout_s)
    finally:
        loop.remove_reader(fd)
