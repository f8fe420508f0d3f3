"""The guest of a view: followed, counted, filtered, and thinned. Needs no terminal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from qtctl.analysis.latency import Question
from qtctl.analysis.suggested_pairs import suggested
from qtctl.commands.context import Context
from qtctl.commands.following import Following, follow_of, following
from qtctl.commands.registry import Options
from qtctl.errors import ConnectionFailed, LinkLost, OutcomeUnknown, QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import new_owner, nothing_matched
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.filters import Filter
from qtctl.records.items import Item
from qtctl.session.names import Names
from qtctl.session.session import Session
from qtctl.session.stream import Stream
from qtctl.text.style import Style
from qtctl.ui.scrollback import Stretch
from qtctl.ui.stream_latency import StreamLatency, asked
from qtctl.ui.stream_rates import StreamRates, check_by, declared_of
from qtctl.writers.rows import RowFormatter


class FollowedGuest:
    """Follows the guest of ``session``: call :meth:`open`, :meth:`follow`, and :meth:`close`.

    If the guest is lost, it waits for it to come back (``away`` meanwhile), and goes on. ``show``
    is called with each item, ``opened`` whenever a guest is followed anew. ``filter`` and the one
    that was given exclude records from what is shown and from rates; ``latency`` gets all records,
    lest pairs be cut, and measures those pairs for which the filters hold.
    """

    def __init__(
        self,
        context: Context,
        options: Options,
        session: Session,
        selection: Selection,
        show: Callable[[Item], None],
        opened: Callable[[], None],
    ) -> None:
        self._context = context
        self._options = options
        self.session = session
        self.selection = selection
        self._show_item, self._opened = show, opened
        self.filter: Filter | None = None
        self._given: Filter | None = None
        self._left_out = 0
        self._filtered = bool(options.where)
        self.latency: StreamLatency | None = None
        self.names: Names
        self._owner = new_owner()
        self.away = False
        self.rating: StreamRates
        self.by: str = options.by
        self._stream: Stream | None = None
        self._items: Following | None = None
        self._entered = contextlib.AsyncExitStack()
        self._before = Counts()
        self._again = self._switched = self._leaving = self._began = False
        self._waiting: asyncio.Future[bool] | None = None

    @property
    def counts(self) -> Counts:
        """The sums so far, over all guests that were followed here."""
        counts = self._before + self._stream.counts if self._stream else self._before
        shown, filtered = counts.shown - self._left_out, counts.filtered + self._left_out
        return replace(counts, shown=shown, filtered=filtered)

    async def open(self) -> None:
        """Switch the events on and start counting.

        Raises: what entering a :class:`Stream` does.
        """
        options = self._options
        self.names = await Names.ask(self.session.monitor, self.session.guest)
        follow = follow_of(options, self.selection)._replace(where=None)
        stream = self.session.stream(follow)
        followed = following(self._context, stream, warns=False, sums=False)
        self._items = await self._entered.enter_async_context(followed)
        self._stream = stream
        self.rating = StreamRates(stream, self.names, self.by, options.interval)
        if options.where and self._given is None:
            self._given = self.compiled(options.where)
        self._measure_again()
        self._opened()

    def formatter(self, style: Style, times: str) -> RowFormatter:
        """Return a formatter of the followed records."""
        stream = self._stream
        in_hex, picked = (stream.hex_arguments(), stream.picked) if stream else ({}, ())
        return RowFormatter(style, times, in_hex, picked, self.names.thread)

    async def switch(self, pattern: str, on: bool) -> None:
        """Switch events on or off, until the guest is given back.

        Raises:
            NothingMatched: no event is picked.
            QtctlError: QEMU refused.
        """
        if not self.selection:
            self._switched = True
            await self.session.leasing.switch(self._owner, Selection.of(pattern), on)
            return
        names = list(await self.session.all_states())
        if not Selection.of(pattern).pick(names):
            raise nothing_matched(Selection.of(pattern), names, self.session.where)
        wanted = Selection((*self.selection.rules, (on, pattern)), self.selection.sets)
        if not wanted.pick(names):
            raise UsageError("no event would be left; q leaves")
        self.selection, self._again = wanted, True
        if self._stream is not None:
            self._stream.stop()

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
        if self._again and not self._leaving:
            self._again = False
            await self._close_stream()
            await self.open()
            return
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
        self._given, self.filter = (one and self.compiled(one.text) for one in self._filters())
        return True

    async def _show(self, item: Item) -> None:
        passed = await self._sifted(item) if isinstance(item, Batch) else item
        if not isinstance(passed, Batch) or len(passed):
            self.rating.take(passed)
            self._show_item(passed)
        # Behind the others: who asks for a latency meanwhile has these records among the kept.
        if self.latency is not None:
            await asyncio.to_thread(self.latency.take, item)

    async def _sifted(self, batch: Batch) -> Batch:
        """Return the records for which the filters hold."""
        passed = batch
        for one in filter(None, self._filters()):
            passed = passed.select(await asyncio.to_thread(one.mask, passed))
        self._left_out += len(batch) - len(passed)
        return passed

    def _filters(self) -> tuple[Filter | None, Filter | None]:
        return self._given, self.filter

    @property
    def where(self) -> str:
        """The expression for which shown records hold; empty for all."""
        texts = [one.text for one in self._filters() if one is not None]
        return texts[0] if len(texts) == 1 else " and ".join(f"({text})" for text in texts)

    def filter_by(self, text: str, kept: Sequence[Stretch] = ()) -> str:
        """Show and count only records for which an expression holds; all if it is empty.

        The latency is measured anew, beginning with rows that were ``kept``. Returns why it is not
        any more, if the expression does not fit the pair.

        Raises:
            UsageError: the expression is wrong, or names no argument of the events.
        """
        self.filter = self.compiled(text) if text else None
        before, self.latency = self.latency, None
        begin, self._filtered = () if self._filtered else kept, True
        if before is not None:
            try:
                self.latency = StreamLatency(before.pair, self._asked(before.pair), begin)
            except UsageError as error:
                return f"no latency is measured: {error.message}"
        return ""

    def pair_by(self, pair: str, kept: Sequence[Stretch] = ()) -> None:
        """Measure the latency of ``START,END[,KEY]``, beginning with rows that were ``kept``.

        Those do not count once there was a filter: the other half of a pair may be missing.

        Raises:
            UsageError: it is no pair of the followed events.
        """
        question = self._asked(pair)
        self.latency = StreamLatency(pair, question, () if self._filtered else kept)

    def _asked(self, pair: str) -> Question:
        names = self._stream.picked if self._stream else []
        declared = {one.name: one for one in self._declared()}
        return asked(pair, names, declared, self.session.where, self.where)

    def _measure_again(self) -> None:
        """Go on with the latency on the guest that is followed now."""
        try:
            if self.latency is not None:
                self.latency.go_on(self._asked(self.latency.pair))
            elif (pair := getattr(self._options, "pair", None)) and not self._began:
                self.pair_by(pair)
        except QtctlError as error:
            self.latency = None
            self._context.complain(f"no latency is measured: {error.message}")
        self._began = True

    def suggested_pairs(self) -> list[tuple[str, str]]:
        """Return pairs of followed events whose latency is worth a look."""
        return suggested(self._declared())

    def compiled(self, text: str) -> Filter:
        """Return the filter of an expression over the followed events.

        Raises:
            UsageError: the expression is wrong, or names no argument of the events.
        """
        return Filter.compile(text, self._declared())

    def group_by(self, by: str) -> None:
        """Group by another property or argument from now on.

        Raises:
            UsageError: no event has such an argument.
        """
        check_by(self._declared(), by)
        self.by = by
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
        await self._close_stream()
        if self._switched:
            self._switched = False
            await self.session.end(self._owner)

    async def _close_stream(self) -> None:
        if self._stream is not None:
            self._before, self._stream = self._before + self._stream.counts, None
        with contextlib.suppress(LinkLost):
            await self._entered.aclose()
