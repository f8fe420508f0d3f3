"""How a verb's output ends: flushed within bounds, and no half-written file left behind."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from qtctl.commands.context import Context
from qtctl.commands.output import Output

_FLUSH_S = 1.0
FILE_S = 60.0
"""How long the last lines of a file may take to be written."""


async def finish(context: Context, output: Output, seconds: float = 5.0) -> None:
    """Wait until all lines are written: at most ``seconds``, or a moment once told to stop."""
    if not await output.finish(_FLUSH_S if context.stop.is_set() else seconds):
        context.complain("the reader of the records has stalled: not all of them were written")


@contextlib.contextmanager
def whole_or_removed(context: Context, path: Path | None) -> Iterator[None]:
    """Remove ``path``, which was made for this block, if the block fails or is told to stop."""
    try:
        yield
    except BaseException:
        _remove(path)
        raise
    if context.stop.is_set() and path is not None:
        _remove(path)
        context.complain(f"stopped: {path} was not completed, and is removed")


def _remove(path: Path | None) -> None:
    if path is not None and path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path is not None:
        path.unlink(missing_ok=True)
