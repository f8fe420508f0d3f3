"""The guest of a view: followed, counted, filtered, and thinned. Needs no terminal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from qtctl.commands.context import Context
from qtctl.commands.following import Following, follow_of, following
from qtctl.commands.formatting import ItemFormatter, TextFormatter, count_records
from qtctl.commands.registry import Options
from qtctl.errors import ConnectionFailed, LinkLost, OutcomeUnknown
from qtctl.events.selection import Selection
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.filters import Filter
from qtctl.records.items import Item
from qtctl.session.names import Names
from qtctl.session.session import Session
from qtctl.session.stream import Stream
from qtctl.text.style import Style
from qtctl.ui.screen import Screen
from qtctl.ui.stream_rates import StreamRates, check_by, declared_of
from qtctl.writers.rows import RowFormatter

_WIDE = 120
"""From so many columns on, names of events are padded, so that arguments line up."""


class FollowedGuest:
    """Follows the guest of ``session``: call :meth:`open`, :meth:`follow`, and :meth:`close`.

    If the guest is lost, it waits for it to come back (``away`` meanwhile), and goes on. ``draw``
    is called with the lines to show, at a rate that can be read. ``filter`` excludes records from
    lines and rates, not from ``counts``. ``not_drawn`` counts the records that were left out.
    """

    def __init__(
        self,
        context: Context,
        options: Options,
        session: Session,
        selection: Selection,
        draw: Callable[[Iterable[str]], None],
    ) -> None:
        self._context = context
        self._options = options
        self.session = session
        self._selection = selection
        self.screen = Screen(context.out_style, draw, lambda: True)
        self.filter: Filter | None = None
        self.not_drawn = 0
        self.away = False
        self.rating: StreamRates
        self._by: str = options.by
        self._stream: Stream | None = None
        self._items: Following | None = None
        self._entered = contextlib.AsyncExitStack()
        self._before = Counts()
        self._writer: ItemFormatter
        self._leaving = False
        self._waiting: asyncio.Future[bool] | None = None

    @property
    def counts(self) -> Counts:
        """The sums so far, over all guests that were followed here."""
        return self._before + self._stream.counts if self._stream else self._before

    async def open(self) -> None:
        """Switch the events on and start counting.

        Raises: what entering a :class:`Stream` does.
        """
        options = self._options
        names = await Names.ask(self.session.monitor, self.session.guest)
        stream = self.session.stream(follow_of(options, self._selection))
        followed = following(self._context, stream, warns=False, sums=False)
        self._items = await self._entered.enter_async_context(followed)
        self._stream = stream
        self.rating = StreamRates(stream, names, self._by, options.interval)
        style = self._context.out_style
        padded = Style(style.width if style.width >= _WIDE else 0, style.colour, style.unicode)
        in_hex = stream.hex_arguments()
        rows = RowFormatter(padded, options.time, in_hex, stream.picked, names.thread)
        self._writer = TextFormatter(rows)

    async def follow(self) -> None:
        """Show the guest's records until :meth:`stop`.

        Raises:
            NothingMatched, UsageError, Unsupported: the guest that came back is another one.
        """
        while not self._leaving:
            try:
                if not self.away or await self._back():
                    await self._follow()
            except (LinkLost, OutcomeUnknown, ConnectionFailed) as lost:
                self.away = True
                await self.close()
                if not self._leaving:
                    self._context.complain(f"{lost.message}; waiting for the guest to come back")

    async def _follow(self) -> None:
        assert self._items is not None
        async for item in self._items:
            if not self._leaving:
                await self._show(item)
        if self._items.lost is not None:
            raise self._items.lost
        self._leaving = True

    async def _back(self) -> bool:
        """Wait for the guest and open again; return whether it came back before :meth:`stop`."""
        self._waiting = asyncio.ensure_future(self.session.comes_back())
        await asyncio.wait({self._waiting})
        if self._leaving:
            return False
        self._waiting.result()
        await self.open()
        self.away = False
        if self.filter is not None:
            self.filter_by(self.filter.text)
        return True

    async def _show(self, item: Item) -> None:
        if isinstance(item, Batch) and self.filter is not None:
            mask = await asyncio.to_thread(self.filter.mask, item)
            item = item.select(mask)
            if not len(item):
                return
        self.rating.take(item)
        self.not_drawn += count_records(item)
        await self.screen.put(partial(self._lines, item), count_records(item))

    def _lines(self, item: Item, records: int) -> Iterator[str]:
        self.not_drawn -= records
        return self._writer.lines(item, records)

    def filter_by(self, text: str) -> None:
        """Show and count only records for which an expression holds; all if it is empty.

        Raises:
            UsageError: the expression is wrong, or names no argument of the events.
        """
        self.filter = Filter.compile(text, self._declared()) if text else None

    def group_by(self, by: str) -> None:
        """Group by another property or argument from now on.

        Raises:
            UsageError: no event has such an argument.
        """
        check_by(self._declared(), by)
        self._by = by
        self.rating.group_by(by)

    def _declared(self) -> list[Declaration]:
        return declared_of(self.session, self._stream.picked if self._stream else ())

    def stop(self) -> None:
        """End :meth:`follow`; records until then are not shown."""
        self._leaving = True
        if self._stream is not None:
            self._stream.stop()
        if self._waiting is not None:
            self._waiting.cancel()

    async def close(self) -> None:
        """Restore the guest."""
        self._before, self._stream = self.counts, None
        with contextlib.suppress(LinkLost):
            await self._entered.aclose()
