"""Following a guest until stopped: the one loop of every verb that does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING

from qtctl.commands.formatting import flood_words, lost_words, say_sums
from qtctl.commands.progress import Progress
from qtctl.commands.registry import Options
from qtctl.errors import DataLost, LinkLost, QtctlError
from qtctl.events.states import unknown_words
from qtctl.model import Flood
from qtctl.session.follow import Follow
from qtctl.text.status_line import REDRAW_S
from qtctl.text.style import counted
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.commands.context import Context
    from qtctl.commands.output import Output
    from qtctl.events.selection import Selection
    from qtctl.records.counts import Counts
    from qtctl.records.items import Item
    from qtctl.session.session import Session
    from qtctl.session.stream import Stream


def follow_of(options: Options, selection: Selection) -> Follow:
    """Return the settings of a stream as the options of a verb say; others keep their defaults."""
    return Follow(
        selection,
        where=getattr(options, "where", None),
        backend=options.backend,
        text=getattr(options, "all", False),
        limit=getattr(options, "max_events", None),
        kernel=tuple(getattr(options, "kernel", ())),
        guard=getattr(options, "guard", None),
        own=getattr(options, "own", False),
        clock=getattr(options, "clock", None),
    )


def records_read(stream: Stream) -> str:
    """Return what a progress line shows of a stream."""
    read = stream.counts.read
    per_s = read / max((time.time_ns() - stream.began_ns) / 1e9, 1e-9)
    return f"{short(read)} records read, {short(per_s)}/s, {lost_words(stream.counts)} lost"


class Following:
    """The items of a followed guest, to iterate once.

    If the link is lost, the iteration just ends, so that the verb can print the rest; ``lost`` is
    then the error, which :func:`following` raises afterwards. ``warn`` reports floods.
    """

    def __init__(self, items: AsyncGenerator[Item], warn: Callable[[str], None] | None) -> None:
        self.lost: LinkLost | None = None
        self._items = items
        self._warn = warn

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> Item:
        try:
            item = await anext(self._items)
        except LinkLost as error:
            self.lost = error
            raise StopAsyncIteration from None
        if self._warn is not None and isinstance(item, Flood):
            self._warn(flood_words(item))
        return item

    async def aclose(self) -> None:
        """End the iteration early."""
        await self._items.aclose()


@contextlib.asynccontextmanager
async def following(
    context: Context,
    stream: Stream,
    *,
    duration: float | None = None,
    output: Output | None = None,
    warns: bool = True,
    sums: bool = True,
    progress: Callable[[], str] | None = None,
) -> AsyncIterator[Following]:
    """Enter ``stream``, yield its items, and close everything in order when the block ends.

    ``context.stop``, or ``duration`` seconds, end the stream: events go off at once, and the items
    until then still come. ``progress`` returns what stands in a progress line; it is for verbs that
    write no data to the terminal meanwhile. Floods are reported on stderr unless ``warns`` is
    false. After the block the guest is restored, ``output`` flushed, and the sums are printed
    (``sums``).

    Raises:
        LinkLost: the guest or its monitor went away.
        QtctlError: the output could not be written; and whatever entering the stream raises.
    """
    followed = Following(aiter(stream), context.complain if warns else None)
    try:
        async with _flushed(context, output), _entered(context, stream):
            _announce(context, stream)
            stream.on_silence = lambda text, proven: (
                context.complain(text) if proven else context.say(text)
            )
            async with (
                until_stopped(context.stop, duration, lambda: _release(stream)),
                _progress(context, duration, progress),
                contextlib.aclosing(followed),
            ):
                yield followed
    finally:
        if sums and stream.began_ns:
            say_sums(context, stream.counts)
    _check(followed, output)


@contextlib.asynccontextmanager
async def _progress(
    context: Context, duration: float | None, label: Callable[[], str] | None
) -> AsyncIterator[None]:
    """Show how far ``duration`` is (None: no end is set) behind ``label``; None shows nothing."""
    if label is None:
        yield
        return
    began = time.monotonic()

    async def tick(line: Progress) -> None:
        while True:
            await asyncio.sleep(REDRAW_S)
            line.update(time.monotonic() - began)

    with Progress(context, duration, lambda _: label()) as line:
        async with _beside(tick(line)):
            yield


@contextlib.asynccontextmanager
async def listening(
    context: Context, session: Session, *, duration: float | None, output: Output
) -> AsyncIterator[Following]:
    """Yield the QMP events and marks of a guest of which no trace event is followed.

    It ends, closes and raises like :func:`following`.
    """
    from qtctl.session.triggers import guest_news

    followed = Following(guest_news(session, context.stop), None)
    async with (
        _flushed(context, output),
        contextlib.aclosing(followed),
        until_stopped(context.stop, duration, context.stop.set),
    ):
        yield followed
    _check(followed, output)


@contextlib.asynccontextmanager
async def until_stopped(
    stop: asyncio.Event, seconds: float | None, halt: Callable[[], Awaitable[None] | None]
) -> AsyncIterator[None]:
    """Call ``halt`` when ``stop`` is set, or after ``seconds``, if the block still runs."""

    async def wait() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        halting = halt()
        if halting is not None:
            await halting

    async with _beside(wait()):
        yield


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``work`` until the block ends."""
    working = asyncio.ensure_future(work)
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@contextlib.asynccontextmanager
async def _entered(context: Context, stream: Stream) -> AsyncIterator[None]:
    """Enter and leave ``stream``, and show what takes long."""
    async with contextlib.AsyncExitStack() as stack:
        with context.waiting(lambda: f"switching events on, and opening {stream.backend}"):
            await stack.enter_async_context(stream)
        try:
            yield
        finally:
            with context.waiting(lambda: "giving the guest back"):
                await stack.aclose()


async def _release(stream: Stream) -> None:
    stream.stop()
    # A stalled reader keeps the stream from doing so itself. The stream tries once more and
    # reports an error.
    with contextlib.suppress(QtctlError):
        await stream.release()


@contextlib.asynccontextmanager
async def _flushed(context: Context, output: Output | None) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if output is not None:
            await context.finish(output)


def _check(followed: Following, output: Output | None) -> None:
    if followed.lost is not None:
        raise followed.lost
    if output is not None:
        output.check()


def check_lost(counts: Counts) -> None:
    """Raise DataLost if any record was lost or unread, as ``--strict`` demands."""
    if counts.lost or counts.unknown_losses:
        raise DataLost(f"{lost_words(counts)} lost", hint="a --where or fewer patterns")
    if counts.unread:
        raise DataLost(f"{counts.unread} unread")


def _announce(context: Context, stream: Stream) -> None:
    """Report on stderr what an entered stream follows, and what is missing."""
    for backend, why in stream.passed_over.items():
        context.say(f"not by {backend}: {why}")
    if stream.choices > 1:
        context.say(f"by {stream.backend}: of what can be followed here the cheapest for the guest")
    report = stream.report
    if report is None:
        context.say(f"following what is on, from {stream.source}; Ctrl-C ends")
    else:
        context.say(
            f"{counted(len(report.matched), 'event')} on ({len(report.changed)} changed), "
            f"from {stream.source}; Ctrl-C {stream.on_interrupt}"
        )
        for pattern in report.unmatched:
            context.say(f"no event matches {pattern!r}")
        if report.unavailable:
            context.say(f"{counted(len(report.unavailable), 'event')} unavailable in this QEMU")
        if report.unknown:
            context.complain(unknown_words(report))
        if report.failed:
            context.complain(f"{counted(len(report.failed), 'event')} read back as not enabled")
    undeclared = stream.undeclared()
    if undeclared:
        source = stream.session.facts.declarations_path
        where = f"not declared in {source}" if source else "without a trace-events-all"
        events = counted(len(undeclared), "event")
        context.say(f"{events} {where}: arguments stay text; try: --events-all FILE")
