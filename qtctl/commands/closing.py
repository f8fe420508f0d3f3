"""How a verb's output ends: flushed within bounds, and no half-written file left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from qtctl.commands.context import Context
from qtctl.commands.output import Out, Output

_FLUSH_S = 1.0


async def finish(context: Context, output: Output, seconds: float = 5.0) -> None:
    """Wait until all lines are written: at most ``seconds``, or a moment once stopped."""
    if not await output.finish(_FLUSH_S if context.stop.is_set() else seconds):
        context.complain("the reader of the records has stalled: not all of them were written")


@contextlib.contextmanager
def whole_or_removed(context: Context, out: Out) -> Iterator[None]:
    """Remove the file or folder created at ``out`` if the block fails or is stopped."""
    try:
        yield
    except BaseException:
        out.remove()
        raise
    if context.stop.is_set() and out.remove():
        context.complain(f"stopped: {out} was not completed, and is removed")
