"""Reading a file to its end, as every verb does that takes one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from qtctl.commands.context import Context
from qtctl.commands.following import check_lost
from qtctl.commands.formatting import count_records, say_sums
from qtctl.commands.output import FILE_S, Output, put
from qtctl.commands.places import Out
from qtctl.commands.progress import bytes_progress
from qtctl.commands.registry import Options
from qtctl.commands.values import files_of, jobs_of, selection
from qtctl.errors import QtctlError, UsageError
from qtctl.text.style import counted

if TYPE_CHECKING:
    from qtctl.events.selection import Selection
    from qtctl.records.items import Item
    from qtctl.session.merging import Reading
    from qtctl.session.replay import Replay
    from qtctl.writers.base import LineExport

_T = TypeVar("_T")


async def open_replay(
    context: Context,
    path: Path,
    selection: Selection,
    where: str | None,
    *,
    named: bool = False,
) -> Replay:
    """Open a file and report on stderr how it is read, with its name where there are several.

    Raises: what :class:`Replay` does.
    """
    from qtctl.session.replay import Replay

    opened = partial(Replay, events_all=context.events_all, selection=selection, where=where)
    replay = await run_stoppable(context, partial(opened, path), [path])
    for note in replay.notes:
        context.say(f"{path}: {note}" if named else note)
    return replay


async def open_files(
    context: Context,
    paths: Sequence[Path],
    selection: Selection,
    where: str | None,
    *,
    text: bool = False,
    limit: int | None = None,
    ordered: bool = True,
    follow: bool = False,
    jobs: int = 1,
) -> Reading:
    """Open one file, or several: ``ordered`` by time, else one after the other.

    ``follow``: it is read on as it grows. ``jobs``: see :func:`open_reading`.

    Reports on stderr how they are read.

    Raises: what :class:`Replay` and :class:`Files` do.
    """
    from qtctl.session.merging import open_reading

    opened = partial(
        open_reading,
        paths,
        events_all=context.events_all,
        selection=selection,
        where=where,
        text=text,
        limit=limit,
        ordered=ordered,
        follow=follow,
        jobs=jobs,
    )
    reading = await run_stoppable(context, opened, paths)
    context.say(*reading.notes)
    return reading


async def run_stoppable(context: Context, call: Callable[..., _T], paths: Iterable[Path]) -> _T:
    """Run ``call(stop=EVENT)``, which opens files, in a thread.

    The event is set when the verb is stopped meanwhile.
    """
    stopped = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(call, stop=stopped))
    stop = asyncio.ensure_future(context.stop.wait())
    try:
        with context.waiting(lambda: f"opening {', '.join(map(str, paths))}"):
            await asyncio.wait({work, stop}, return_when="FIRST_COMPLETED")
    finally:
        stop.cancel()
        if not work.done():
            stopped.set()
    return await work


async def replay_of(context: Context, options: Options) -> Reading:
    """Open the FILEs of a verb that prints them, as :func:`open_files` does."""
    paths, follow = files_of(options), getattr(options, "follow", False)
    chosen, limit = selection(options), options.max_events
    if follow and len(paths) > 1:
        raise UsageError("--follow is for one FILE")
    return await open_files(
        context,
        paths,
        chosen,
        options.where,
        text=options.all,
        limit=limit,
        follow=follow,
        jobs=jobs_of(options),
    )


class _OneThread:
    """Runs functions in one thread: each thread that allocates keeps memory of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "qtctl-reading")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False)

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run a function; the caller may be cancelled meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


async def read_through(context: Context, replay: Reading, take: Callable[[Item], None]) -> None:
    """Pass every item of a file to ``take``, in a thread, with progress, until stopped."""

    def step() -> bool:
        items = replay.step()
        for item in items or ():
            take(item)
        return items is not None

    with bytes_progress(context, replay.size) as progress, _OneThread() as thread:
        while not context.stop.is_set() and await thread.run(step):
            progress.update(replay.taken)


async def print_all(
    context: Context, replay: Reading, formatter: LineExport, output: Output, out: Out
) -> None:
    """Print every item of a file to ``output``, which leads to ``out``, until stopped; flush."""
    alone = not context.style_at(out).terminal
    with bytes_progress(context, replay.size, alone=alone) as progress, _OneThread() as thread:
        while not context.stop.is_set():
            items = await thread.run(replay.step)
            if items is None:
                break
            for item in items:
                lines = partial(formatter.lines, item)
                await put(output, lines, context.stop, count_records(item))
            progress.update(replay.taken)
        context.shown = await put(output, lambda _: formatter.ended(replay.counts), context.stop)
    await context.finish(output, FILE_S)


def say_end(context: Context, replay: Reading) -> None:
    """Print the sums of a file on stderr, and warnings."""
    say_doubts(context, replay)
    say_sums(context, replay.counts)


def say_doubts(context: Context, replay: Reading) -> None:
    """Print a warning on stderr if times of a file step back, or lines could not be read."""
    if replay.remark:
        context.complain(replay.remark)
    if replay.counts.unread:
        lines = counted(replay.counts.unread, "line")
        context.complain(f"{replay.path}: {lines} with an event could not be read:")
        for line in replay.unread_lines:
            context.complain(f"  {line}")


def check_read(replay: Reading, *, strict: bool = False) -> None:
    """Raise an error for what was not read of a file; call it once the rest was shown.

    Raises:
        DataLost: ``strict``, and records were lost or lines unread.
        QtctlError: part of the file could not be read.
    """
    if strict:
        check_lost(replay.counts)
    if replay.problem:
        raise QtctlError(replay.problem)
