"""Single keys, pressed on the terminal while a verb runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping


def in_foreground(fd: int) -> bool:
    """Return whether this process may read from its terminal: the shell stops others that do."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def keys(bound: Mapping[str, Callable[[], None]]) -> Iterator[bool]:
    """For the length of the block, call the function bound to each key that is pressed.

    Yields whether there is a terminal for that; its settings are restored afterwards.
    """
    try:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        ours = in_foreground(fd)
    except (OSError, ValueError, AttributeError, termios.error):
        ours = False
    if not ours:
        yield False
        return

    def pressed() -> None:
        with contextlib.suppress(OSError):
            for key in os.read(fd, 64).decode("utf-8", "replace"):
                bound.get(key, lambda: None)()

    loop = asyncio.get_running_loop()
    tty.setcbreak(fd, termios.TCSANOW)
    try:
        loop.add_reader(fd, pressed)
        yield True
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSANOW, before)
