"""The verb repl: a prompt, or a script of lines."""

from __future__ import annotations

import contextlib
import os
import sys

from qtctl.commands.context import Context
from qtctl.commands.registry import CommandTable, Options, command
from qtctl.errors import UsageError
from qtctl.verbs import CONSOLE_VERBS, VERBS


@command(
    "repl",
    examples=("qtctl repl", "qtctl -t vm1 repl", "qtctl repl < lines"),
    details="""\
`qtctl` alone on a terminal is the same. What is on is shown as it comes; `enable` and `disable`
last until the prompt is left, `tail` and other long verbs go on in the background. Tab completes,
Ctrl-C stops the newest job or clears the line, Ctrl-D leaves and restores the guest; `help`
shows more.

Where stdin is no terminal its lines are a script: each is run to its end, all on one connection.
The first that fails ends it, with its exit code. `echo 'list virtio_*' | qtctl repl`""",
)
async def repl(context: Context, options: Options) -> int:
    """Run lines until the end of input, and restore what they switched."""
    if context.json:
        raise UsageError("a prompt prints no one document", hint="--json behind a verb in it")
    context.stops = True
    # On a dumb terminal, nothing can be drawn above the line.
    drawn = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    async with contextlib.AsyncExitStack() as held:
        session = await held.enter_async_context(context.attached(lend=True))
        if drawn:
            from qtctl.ui.prompt import run_prompt

            return await run_prompt(context, session, verbs(), held)
        from qtctl.ui.plain_console import run_lines

        return await run_lines(context, session, verbs(), held)


def verbs() -> CommandTable:
    """Return the verbs of a console: its own, and those of the command line."""
    return CommandTable([*(verb for verb in VERBS if verb.console != "absent"), *CONSOLE_VERBS])
