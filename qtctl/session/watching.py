"""Conditions on what a stream yields: an expression over its records, or a QMP event of the guest.

A word in capitals (``GUEST_PANICKED``, ``STOP``) is a QMP event, as ``qapi`` names them; anything
else is an expression as ``--where`` takes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from qtctl.model import Declaration, GuestEvent
from qtctl.records.batch import Batch
from qtctl.records.filters import Filter
from qtctl.session.feeds.base import Item

_QMP_EVENT = re.compile(r"[A-Z][A-Z0-9_]+")


def is_guest_event(text: str) -> bool:
    """Tell if a condition names a QMP event."""
    return _QMP_EVENT.fullmatch(text) is not None


class Condition:
    """One condition, checked against the events it is meant for.

    Raises:
        UsageError: it is no expression, or names no argument of these events.
    """

    def __init__(self, text: str, declarations: Iterable[Declaration]) -> None:
        self.text = text
        self._filter = None if is_guest_event(text) else Filter.compile(text, declarations)

    def matches(self, item: Item) -> int:
        """Return how many records, or QMP events, of an item it holds for."""
        if self._filter is None:
            return int(isinstance(item, GuestEvent) and item.name == self.text)
        return int(self._filter.mask(item).sum()) if isinstance(item, Batch) else 0
