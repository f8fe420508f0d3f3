"""The verb qmp: send one QMP command."""

from __future__ import annotations

import json

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, arg, command
from qtctl.errors import UsageError


@command(
    "qmp",
    arguments=(arg("request", metavar="JSON", help="a command's name, or a whole JSON object"),),
    examples=(
        "qtctl qmp query-status",
        """qtctl qmp '{"execute": "query-chardev"}'""",
        "qtctl qmp query-block | jq '.[].device'",
    ),
    guests="each",
)
async def qmp(context: Context, options: Options) -> Result:
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
            'a QMP command is an object with "execute"', hint="""'{"execute": "query-status"}'"""
        )
    extra = set(document) - {"execute", "arguments", "id"}
    arguments = document.get("arguments")
    if extra or not isinstance(arguments, dict | None):
        what = f"unknown member {sorted(extra)[0]!r}" if extra else '"arguments" is not an object'
        raise UsageError(f"not a QMP command: {what}")
    return document["execute"], arguments
