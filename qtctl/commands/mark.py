"""The verb mark: put a note into the stream of every console on a guest."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, arg, command
from qtctl.errors import QtctlError, UsageError
from qtctl.monitor.news import MARK
from qtctl.text.style import counted


@command(
    "mark",
    arguments=(arg("words", nargs="+", metavar="TEXT", help="the note, quoted or as words"),),
    examples=(
        "qtctl mark before reset",
        "qtctl mark 'second try, cache=none'",
        "qtctl -t vm1 mark reset",
    ),
    details="Consoles are running qtctls that show events: tail, pane, the prompt.",
    guests="each",
)
async def mark(context: Context, options: Options) -> Result:
    """Put a note into every stream."""
    text = " ".join(options.words)
    if not text.strip():
        raise UsageError("an empty mark says nothing", hint="qtctl mark 'before reset'")
    async with context.attached() as session:
        listeners = await session.monitor.announce(MARK, {"text": text})
        if not listeners:
            raise QtctlError(
                f"nobody follows {session.where}, so the mark is in no stream",
                hint="qtctl tail, in another terminal",
            )
    document = {"text": text, "listeners": listeners}
    return Result(document, lambda style: [f"marked on {counted(listeners, 'console')}"])
