"""The verb list: events and their states."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.options import EXCEPT, PATTERNS
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.model import EventState
from qtctl.text.style import STATES
from qtctl.text.tables import table


@command(
    "list",
    arguments=(
        PATTERNS,
        EXCEPT,
        arg(
            "--state",
            choices=[state.value for state in EventState],
            help="only events in this state",
        ),
    ),
    examples=(
        "qtctl list 'virtio_blk_*' @run-state",
        "qtctl list --state enabled",
        "qtctl list --json | jq -r '.events[].name'",
    ),
    selects=True,
    guests="each",
)
async def list_events(context: Context, options: Options) -> Result:
    """List events, sorted by name."""
    chosen = selection(options) or Selection.of("*")
    async with context.attached() as session:
        states = await session.states_of(chosen)
        names = sorted(chosen.pick(states))
        if not names:
            known = list(states if not chosen.plain else await session.all_states())
            raise nothing_matched(chosen, known, session.where)
        rows = [(n, states[n].value) for n in names if options.state in (None, states[n].value)]
    document = {"events": [{"name": name, "state": state} for name, state in rows]}
    header, roles = ("EVENT", "STATE"), {"STATE": STATES.get}
    return Result(document, lambda style: table(style, header, rows, roles=roles))
