"""The verb hmp: run one line of QEMU's human monitor."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, arg, command
from qtctl.text.style import escaped


@command(
    "hmp",
    arguments=(arg("line", nargs="+", metavar="LINE", help="the line, quoted or as words"),),
    examples=("qtctl hmp info status", "qtctl hmp 'help log'", "qtctl -t vm1 hmp info block"),
    details="The human monitor returns errors as text, so the exit code is 0.",
    guests="each",
)
async def hmp(context: Context, options: Options) -> Result:
    """Run an HMP line and print its text."""
    line = " ".join(options.line)
    async with context.attached() as session:
        text = await session.monitor.hmp(line)
    lines = text.removesuffix("\n").split("\n") if text else []
    return Result({"line": line, "text": text}, lambda style: map(escaped, lines))
