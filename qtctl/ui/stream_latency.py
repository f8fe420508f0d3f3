"""The latency of a pair of events of a followed guest, over time; fed by threads."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qtctl.analysis.heat import HeatMap
from qtctl.analysis.latency import Latency, Question
from qtctl.commands.latency import left_out, warnings
from qtctl.commands.values import pair
from qtctl.errors import UsageError
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.items import Item, Loss
from qtctl.ui.scrollback import Stretch

_RECENT = 1 << 16
"""So many pairs wait, while nobody looks, for what comes to show that times stepped back."""


class Sums(NamedTuple):
    """What is in the map and what is not: pairs, reasons with numbers, and warnings."""

    pairs: int
    percentiles: Sequence[int]
    reasons: Sequence[tuple[str, int]]
    warnings: Sequence[str]


def asked(
    text: str, names: Sequence[str], declared: Mapping[str, Declaration], source: str, where: str
) -> Question:
    """Return the checked question for the latency of ``START,END[,KEY]``.

    Raises:
        NothingMatched: one of them matches none of ``names``, the events of ``source``.
        UsageError: the text is no pair, or the key or ``where`` do not fit these events.
    """
    try:
        start, end, key = pair(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from error
    return Question.ask(start, end, names, declared, source, key=key, where=where or None)


class StreamLatency:
    """Measures ``pair`` (``START,END[,KEY]``) in rows that were kept, and then in what comes.

    Any thread may call any method. Draw the map inside ``lock``.
    """

    def __init__(self, pair: str, question: Question, kept: Sequence[Stretch] = ()) -> None:
        self.pair = pair
        self.lock = threading.Lock()
        self.map = HeatMap()
        self._kept = list(kept)
        self._latency = Latency(question, self.map)

    @property
    def question(self) -> Question:
        """What is measured."""
        return self._latency.question

    def go_on(self, question: Question) -> None:
        """Measure the same on another stream, into the same map."""
        with self.lock:
            self._latency.lose()
            self._latency.question = question

    def clear(self) -> None:
        """Forget the figures; what is in flight stays."""
        with self.lock:
            self._kept.clear()
            self._latency.renew()
            self.map.clear()

    def catch_up(self) -> None:
        """Measure the rows that were kept."""
        while True:
            with self.lock:
                if not self._kept:
                    return
                content = self._kept.pop(0).content
                if isinstance(content, Batch):
                    # A selection of its own: the arguments that are parsed for it are not kept.
                    self._measure(content.select(slice(None)))
                elif content.role != "note":  # records may be missing here
                    self._latency.lose()

    def take(self, item: Item) -> None:
        """Measure what came."""
        self.catch_up()
        with self.lock:
            self._measure(item)

    def _measure(self, item: Item) -> None:
        self._latency.take(item)
        self._latency.settle(_RECENT)
        if isinstance(item, Loss):
            self._latency.settle()
            self.map.lose()

    def sums(self) -> Sums:
        """Return the sums so far, and let the map have all of them."""
        with self.lock:
            measured = self._latency
            found = measured.spans.statistics()
            told = [text for _, text in warnings(measured, ())]
            percentiles = found.percentiles((0.5, 0.99)) if found.count else ()
            return Sums(found.count, percentiles, left_out(measured, 0), told)
