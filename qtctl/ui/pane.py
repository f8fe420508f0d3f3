"""The verb pane: a view of a guest in a tmux pane beside the work, or here."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys

from qtctl.commands.context import Context, Result
from qtctl.commands.options import ONE_PAIR, SELECTION
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.config import settings
from qtctl.errors import UsageError
from qtctl.ui.tmux import SIDES, here, split
from qtctl.ui.top import VIEWED, has_a_screen, view_call


def _size(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,3}|[1-9]\d?%", text):
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (columns or rows, or 1% to 99%)")
    return text


@command(
    "pane",
    arguments=(
        *SELECTION,
        *VIEWED,
        arg(
            "--view",
            choices=("stream", "top", "latency"),
            default="stream",
            help="begin with the records (default), with their rates, or with a latency",
        ),
        ONE_PAIR,
        *(
            arg(f"--{side}", dest="side", action="store_const", const=side, help=f"{side} of here")
            for side in SIDES
        ),
        arg(
            "--size",
            metavar="SIZE",
            type=_size,
            default="40%",
            help="columns or rows of the pane, or per cent (default: 40%%)",
        ),
        arg("--here", action="store_true", help="show it in this terminal, without tmux"),
    ),
    examples=(
        "qtctl pane",
        "qtctl pane 'virtio_blk_*' --bottom --size 15",
        "qtctl pane --view top --left",
        "qtctl pane 'virtio_blk_*' --pair virtio_blk_handle_read,virtio_blk_req_complete",
        "qtctl pane 'virtio_*' --where 'status != 0' --here",
    ),
    details="""\
Splits the current tmux window and leaves the focus where it is; prints the new pane's id. Without a
pattern it shows what is on: `qtctl enable` and `qtctl mark` in any other pane show up in it. Keys:
space pauses, arrows select a record, Enter opens it, / searches, f filters, w wraps, Tab goes round
records, rates and latency, h lists all keys, q leaves. A guest that is started again is followed
again. Closing the pane restores the guest. Outside tmux: --here, in a second terminal.""",
    selects=True,
)
async def pane(context: Context, options: Options) -> Result | int:
    """Split the window, or show the view."""
    chosen = selection(options)
    if options.here:
        if not has_a_screen(context):
            raise UsageError("a view needs a terminal for itself", hint="qtctl tail")
        from qtctl.ui.view import view

        return await view(context, options, chosen, options.view, view_call)
    place = here(os.environ)
    if place is None:
        raise UsageError(
            "not inside tmux ($TMUX and $TMUX_PANE are not set): there is no window to split",
            hint="qtctl pane --here in a second terminal, or start tmux first",
        )
    from qtctl.ui.actions import configured_actions
    from qtctl.ui.stream_rates import check

    configured_actions(settings())

    async with context.attached() as session:
        # Errors must be printed here, not in a pane that nobody looks at yet.
        await check(session, chosen, options.where, options.by, options.pair)
        words = view_call(options, chosen, session.target, session.facts.events_all)
    call = [sys.executable, "-m", "qtctl", *words]
    made = await asyncio.to_thread(
        split, place, call, side=options.side or "right", size=options.size, env=os.environ
    )
    return Result({"pane": made}, lambda style: [made])
