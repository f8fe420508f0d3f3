"""Following a guest until stopped: the one loop of every verb that does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
)
from functools import partial
from typing import TYPE_CHECKING

from qtctl.commands.formatting import lost_words, note_words, say_sums
from qtctl.commands.progress import Progress
from qtctl.commands.registry import Options
from qtctl.errors import DataLost, LinkLost, QtctlError
from qtctl.events.states import unknown_words
from qtctl.model import Failure, Flood, News
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
    from qtctl.session.merged_stream import Followed
    from qtctl.session.several import Guests
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


def records_read(stream: Followed) -> str:
    """Return what a progress line shows of a stream."""
    read = stream.counts.read
    per_s = read / max((time.time_ns() - stream.began_ns) / 1e9, 1e-9)
    return f"{short(read)} records read, {short(per_s)}/s, {lost_words(stream.counts)} lost"


class Following:
    """The items of followed guests, to iterate once.

    If the link is lost, the iteration just ends, so that the verb can print the rest; ``lost`` is
    then the error, which :func:`following` raises afterwards. ``warns``: floods, and guests that
    fail, are reported on stderr.
    """

    def __init__(
        self, items: AsyncGenerator[Item] | AsyncGenerator[News], context: Context, *, warns: bool
    ) -> None:
        self.lost: LinkLost | None = None
        self._items = items
        self._context = context
        self._warns = warns

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> Item:
        try:
            item = await anext(self._items)
        except LinkLost as error:
            self.lost = error
            raise StopAsyncIteration from None
        if isinstance(item, Flood | Failure):
            self._report(item)
        return item

    def _report(self, item: Flood | Failure) -> None:
        """Report what goes wrong on stderr, unless the records are on the same terminal."""
        if self._warns:
            self._context.complain(note_words(item))
        for one in self._context.failures:
            one.printed |= one.guest.name == item.guest

    async def aclose(self) -> None:
        """End the iteration early."""
        await self._items.aclose()


@contextlib.asynccontextmanager
async def following(
    context: Context,
    stream: Followed,
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
    followed = Following(aiter(stream), context, warns=warns)
    try:
        async with _flushed(context, output), _entered(context, stream):
            _announce(context, stream)
            stream.on_silence = partial(_say, context)
            async with (
                until_stopped(context.stop, duration, lambda: _release(stream)),
                _progress(context, duration, progress),
                contextlib.aclosing(followed),
            ):
                yield followed
    finally:
        if sums and stream.began_ns:
            say_sums(context, stream.counts)
            if late := getattr(stream, "late", 0):  # of several guests
                context.say(
                    f"{counted(late, 'record')} came too late for their place among other guests'"
                )
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
    context: Context, guests: Guests, *, duration: float | None, output: Output
) -> AsyncIterator[Following]:
    """Yield the QMP events and marks of guests of which no trace event is followed.

    It ends, closes and raises like :func:`following`.
    """
    from qtctl.session.session import Session
    from qtctl.session.triggers import guest_news

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_flushed(context, output))
        halt: Callable[[], None] = context.stop.set
        if isinstance(guests, Session):
            followed = Following(guest_news(guests, context.stop), context, warns=True)
        else:
            stream = await stack.enter_async_context(guests.news())
            followed = Following(aiter(stream), context, warns=True)
            halt = stream.stop
        await stack.enter_async_context(contextlib.aclosing(followed))
        await stack.enter_async_context(until_stopped(context.stop, duration, halt))
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
async def _entered(context: Context, stream: Followed) -> AsyncIterator[None]:
    """Enter and leave ``stream``, and show what takes long."""
    async with contextlib.AsyncExitStack() as stack:
        with context.waiting(lambda: _entering(stream)):
            await stack.enter_async_context(stream)
        try:
            yield
        finally:
            with context.waiting(lambda: "giving the guest back"):
                await stack.aclose()


def _entering(stream: Followed) -> str:
    by = getattr(stream, "backend", None)  # several guests may have several
    return f"switching events on, and opening {by}" if by else "switching events on"


async def _release(stream: Followed) -> None:
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


def _say(context: Context, text: str, certain: bool) -> None:
    (context.complain if certain else context.say)(text)


def _announce(context: Context, stream: Followed) -> None:
    """Report on stderr what an entered stream follows, and what is missing."""
    from qtctl.session.merged_stream import MergedStream

    if not isinstance(stream, MergedStream):
        for text, certain in _announcement(stream, f", from {stream.source}"):
            _say(context, text, certain)
        return
    alike: dict[tuple[str, bool], list[str]] = {}
    for name, one in stream.parts.items():
        for part in _announcement(one, ""):
            alike.setdefault(part, []).append(name)
    for (text, certain), names in alike.items():
        _say(context, f"{', '.join(names)}: {text}", certain)
    stream.on_began = partial(_announce_late, context)


def _announce_late(context: Context, name: str, stream: Stream) -> None:
    for text, certain in _announcement(stream, ""):
        _say(context, f"{name}: {text}", certain)


def _announcement(stream: Stream, source: str) -> Iterator[tuple[str, bool]]:
    """Yield messages about a stream, and whether they are also for those who want no others."""
    for backend, why in stream.passed_over.items():
        yield f"not by {backend}: {why}", False
    if stream.choices > 1:
        chosen = f"by {stream.backend}: of what can be followed here the cheapest for the guest"
        yield chosen, False
    report = stream.report
    if report is None:
        yield f"following what is on{source}; Ctrl-C ends", False
    else:
        on = f"{counted(len(report.matched), 'event')} on ({len(report.changed)} changed)"
        yield f"{on}{source}; Ctrl-C {stream.on_interrupt}", False
        for pattern in report.unmatched:
            yield f"no event matches {pattern!r}", False
        if report.unavailable:
            yield f"{counted(len(report.unavailable), 'event')} unavailable in this QEMU", False
        if report.unknown:
            yield unknown_words(report), True
        if report.failed:
            yield f"{counted(len(report.failed), 'event')} read back as not enabled", True
    undeclared = stream.undeclared()
    if undeclared:
        path = stream.session.facts.declarations_path
        where = f"not declared in {path}" if path else "without a trace-events-all"
        events = counted(len(undeclared), "event")
        yield f"{events} {where}: arguments stay text; try: --events-all FILE", False
