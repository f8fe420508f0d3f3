"""The verb info: typed arguments, format and state of one event."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.options import EVENT
from qtctl.commands.registry import Options, command
from qtctl.events.selection import Selection
from qtctl.events.states import read_states
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Argument
from qtctl.text.tables import pairs


@command(
    "info",
    arguments=(EVENT,),
    examples=(
        "qtctl info virtio_blk_handle_read",
        "qtctl info virtio_blk_handle_read --json | jq .arguments",
        "qtctl --events-all /usr/src/qemu info nvme_submit_command",
    ),
    guests="each",
)
async def info(context: Context, options: Options) -> Result:
    """Show one event's declaration and state."""
    async with context.attached() as session:
        states = await read_states(session.monitor, options.event)
        if options.event not in states:
            known = list(await read_states(session.monitor))
            raise nothing_matched(Selection.of(options.event), known, session.where)
        declared = session.facts.declaration(options.event)
        source = session.facts.declarations_path
    state = states[options.event].value
    rows = [("event", options.event), ("state", state)]
    if declared is None:
        where = f"not declared in {source}" if source else "no trace-events-all was found"
        context.say(f"arguments are unknown: {where}; try: --events-all FILE")
    else:
        typed = ", ".join(f"{one.ctype} {one.name}" for one in declared.arguments)
        rows += [("arguments", typed or "none"), ("format", declared.format)]
        rows.append(("declared in", str(source)))
    document = {
        "name": options.event,
        "state": state,
        "arguments": declared and [_argument(one) for one in declared.arguments],
        "format": declared and declared.format,
        "declared_in": declared and str(source),
    }
    return Result(document, lambda style: pairs(style, rows))


def _argument(argument: Argument) -> dict[str, str]:
    return {"name": argument.name, "type": argument.ctype, "kind": argument.kind.value}
