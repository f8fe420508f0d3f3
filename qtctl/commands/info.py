"""The verb info: typed arguments, format and state of one event."""

from __future__ import annotations

from collections.abc import Iterator

from qtctl.commands.context import Context, Result
from qtctl.commands.options import EVENT
from qtctl.commands.registry import Options, command
from qtctl.events.selection import Selection
from qtctl.events.states import read_states
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Argument, Declaration
from qtctl.text.style import Style
from qtctl.text.tables import pairs


@command("info", arguments=(EVENT,), examples=("qtctl info virtio_blk_handle_read",))
async def info(context: Context, options: Options) -> Result:
    """Show one event's declaration and state."""
    async with context.attached() as session:
        states = await read_states(session.monitor, options.event)
        if options.event not in states:
            known = list(await read_states(session.monitor))
            raise nothing_matched(Selection.of(options.event), known, session.where)
        declared = session.facts.declaration(options.event)
        source = session.facts.declarations_path
    if declared is None:
        where = f"not declared in {source}" if source else "no trace-events-all was found"
        context.say(f"arguments are unknown: {where}; try: --events-all FILE")
    document: dict[str, object] = {
        "name": options.event,
        "state": states[options.event].value,
        "arguments": None if declared is None else [_argument(a) for a in declared.arguments],
        "format": declared and declared.format,
        "declared_in": None if declared is None else str(source),
    }
    return Result(document, lambda style: _info_lines(style, document, declared))


def _argument(argument: Argument) -> dict[str, str]:
    return {"name": argument.name, "type": argument.ctype, "kind": argument.kind.value}


def _info_lines(
    style: Style, document: dict[str, object], declared: Declaration | None
) -> Iterator[str]:
    rows = [("event", str(document["name"])), ("state", str(document["state"]))]
    if declared is not None:
        rows += [
            ("arguments", ", ".join(f"{a.ctype} {a.name}" for a in declared.arguments) or "none"),
            ("format", declared.format),
            ("declared in", str(document["declared_in"])),
        ]
    return pairs(style, rows)
