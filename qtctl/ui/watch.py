"""What a view shows: one guest followed, counted, filtered and thinned, without any terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from qtctl.commands.context import Context
from qtctl.commands.stream import announce
from qtctl.commands.writing import Writer, count_records
from qtctl.events.patterns import Selection
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.filters import Filter
from qtctl.session.attach import Session
from qtctl.session.feeds.base import Item
from qtctl.session.follow import Stream
from qtctl.session.names import Names
from qtctl.text.rows import RowFormatter
from qtctl.text.style import Style
from qtctl.ui.rating import Rating, check_by, declared_of
from qtctl.ui.screen import Screen

_WIDE = 120
"""Columns from which names of events are padded, so that arguments line up."""


@dataclass(slots=True)
class WatchContext(Context):
    """Talks into the view while there is one, and to stderr before and after."""

    screen: Screen | None = field(default=None, kw_only=True)

    def talk(self, lines: Iterable[str]) -> None:
        """Write lines of talk."""
        if self.screen is None:
            Context.talk(self, lines)
        else:
            self.screen.write(lines)


class Watch:
    """Follows the guest of ``session``; :meth:`open` before :meth:`follow`, at last :meth:`close`.

    ``draw`` is given the lines to show, thinned for the eye. A ``filter`` leaves records out of the
    lines and of the rates; ``stream.counts`` go on counting them. ``not_drawn`` counts the records
    that the eye was spared.
    """

    def __init__(
        self,
        context: WatchContext,
        options: argparse.Namespace,
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
        self.stream: Stream
        self.rating: Rating
        self._writer: Writer
        self._leaving = False

    async def open(self) -> None:
        """Switch the events on and begin to count.

        Raises: what entering a :class:`Stream` does.
        """
        options = self._options
        names = await Names.ask(self.session.monitor, self.session.guest)
        self.stream = self.session.follow(
            self._selection,
            where=options.where,
            backend=options.backend,
            guard=options.guard,
        )
        await self.stream.__aenter__()
        self.rating = Rating(self.stream, names, options.by, options.interval)
        style = self._context.out_style
        padded = Style(style.width if style.width >= _WIDE else 0, style.colour, style.unicode)
        rows = RowFormatter(
            padded, options.time, self.stream.hex_arguments(), self.stream.picked, names.thread
        )
        self._writer = Writer(rows)
        announce(self._context, self.stream)

    async def follow(self) -> None:
        """Show what the stream yields until it ends.

        Raises:
            LinkLost: the guest or its monitor went away.
        """
        async with contextlib.aclosing(aiter(self.stream)) as items:
            async for item in items:
                if not self._leaving:
                    await self._show(item)

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
        """Show and count only records for which an expression holds; all of them if it is empty.

        Raises:
            UsageError: it is no such expression, or names what no event has.
        """
        self.filter = Filter.compile(text, self._declared()) if text else None

    def group_by(self, by: str) -> None:
        """Count by something else from now on.

        Raises:
            UsageError: no event has such an argument.
        """
        check_by(self._declared(), by)
        self.rating.group_by(by)

    def _declared(self) -> list[Declaration]:
        return declared_of(self.session, self.stream.picked)

    def stop(self) -> None:
        """Ask :meth:`follow` to end; what comes until then is not shown."""
        self._leaving = True
        self.stream.stop()

    async def close(self) -> None:
        """Give the guest back."""
        await self.stream.__aexit__(None, None, None)
