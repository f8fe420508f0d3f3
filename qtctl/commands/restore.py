"""The verb restore: put back what qtctl changed."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, command
from qtctl.errors import OutcomeUnknown
from qtctl.text.style import escaped


@command(
    "restore",
    examples=("qtctl restore", "qtctl -t vm1 restore", "qtctl restore --json"),
    details="Leaves what a running qtctl still needs, and what somebody else switched since.",
    guests="each",
)
async def restore(context: Context, options: Options) -> Result:
    """Undo enable and disable, and restore what killed runs left."""
    async with context.attached() as session:
        given = await session.restore()
    document = {
        "restored": list(given.events),
        "left": list(given.left),
        "unknown": list(given.unknown),
        "notes": list(given.notes),
    }
    lines = [f"{len(given.events)} put back", *given.notes]
    if given.left:
        lines.append(f"{len(given.left)} left as they are: switched by somebody else, or in use")
    code = OutcomeUnknown.exit_code if given.unknown else 0
    return Result(document, lambda style: map(escaped, lines), code)
