"""Verbs that speak to the monitor as it is: hmp, qmp."""

from __future__ import annotations

import argparse
import json

from qtctl.commands.context import Context
from qtctl.commands.registry import Result, arg, command
from qtctl.errors import UsageError
from qtctl.text.style import escaped


@command(
    "hmp",
    arguments=(arg("line", nargs="+", metavar="LINE", help="the line, quoted or as words"),),
    examples=("qtctl hmp info status", "qtctl hmp 'help log'"),
    details="The human monitor returns errors as text, so the exit code does not tell.",
)
async def hmp(context: Context, options: argparse.Namespace) -> Result:
    """Run an HMP line and print its text."""
    line = " ".join(options.line)
    async with context.attached() as session:
        text = await session.monitor.hmp(line)
    lines = text.removesuffix("\n").split("\n") if text else []
    return Result({"line": line, "text": text}, lambda style: map(escaped, lines))


@command(
    "qmp",
    arguments=(arg("request", metavar="JSON", help="a command's name, or a whole JSON object"),),
    examples=(
        "qtctl qmp query-status",
        """qtctl qmp '{"execute": "query-chardev"}'""",
    ),
)
async def qmp(context: Context, options: argparse.Namespace) -> Result:
    """Send a QMP command and print what it returns."""
    command_name, arguments = _request(options.request)
    async with context.attached() as session:
        value = await session.monitor.execute(command_name, arguments)
    return Result(value, lambda style: json.dumps(value, indent=2).split("\n"))


def _request(text: str) -> tuple[str, dict[str, object] | None]:
    if not text.lstrip().startswith(("{", "[", '"')):
        return text.strip(), None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("execute"), str):
        raise UsageError(
            'a QMP command is an object with "execute"',
            hint="""'{"execute": "query-status"}'""",
        )
    extra = set(document) - {"execute", "arguments", "id"}
    arguments = document.get("arguments")
    if extra or not isinstance(arguments, dict | None):
        what = f"unknown member {sorted(extra)[0]!r}" if extra else '"arguments" is not an object'
        raise UsageError(f"not a QMP command: {what}")
    return document["execute"], arguments
