"""A console without a prompt: for a script of lines, or a dumb terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

from qtctl.commands.context import Context
from qtctl.commands.registry import CommandTable
from qtctl.session.session import Session
from qtctl.ui.console import Console
from qtctl.ui.screen import Screen


async def run_lines(
    context: Context, session: Session, verbs: CommandTable, held: contextlib.AsyncExitStack
) -> int:
    """Run the lines of stdin on ``session``, which ``held`` closes; return the exit code.

    Lines from a terminal run as at the prompt, long ones in the background. Lines of a script each
    run to their end, and the first that fails is the last.
    """
    typed = sys.stdin.isatty()
    screen = None
    if sys.stdout.isatty():
        screen = Screen(context.out_style, context.write, lambda: True)
    console = Console(context, session, verbs, held=held, screen=screen)
    if typed:
        context.interrupt = console.interrupt
        context.say(f"on {session.where}; `help` lists the verbs, Ctrl-D leaves")
    lines, code, number = _read_stdin(), 0, 0
    left = asyncio.ensure_future(console.left.wait())
    try:
        while not code and not left.done():
            line = asyncio.ensure_future(lines.get())
            await asyncio.wait({line, left}, return_when="FIRST_COMPLETED")
            if not line.done() or (text := line.result()) is None:
                break
            if typed:
                console.submit(text)
                continue
            number += 1
            run = asyncio.ensure_future(console.run(text))
            await asyncio.wait({run, left}, return_when="FIRST_COMPLETED")
            code = run.result() if run.done() else 0
            if code:
                context.complain(f"line {number} failed: the script ends here")
    finally:
        context.interrupt = None
        left.cancel()
        await console.leave()
        if screen is not None:
            screen.flush()
    return code


def _read_stdin() -> asyncio.Queue[str | None]:
    """Return a queue of the lines of stdin, then None; a daemon thread fills it."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        try:
            with os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8", errors="replace") as file:
                for line in file:
                    loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)
        except (OSError, RuntimeError):  # a terminal that is gone, a loop that has ended
            return

    threading.Thread(target=read, daemon=True, name="qtctl-lines").start()
    return lines
