"""One of several guests that are followed at once."""

from __future__ import annotations

import asyncio

from qtctl.errors import QtctlError
from qtctl.model import Failure
from qtctl.records.counts import Counts
from qtctl.records.rows_by_time import Row
from qtctl.session.session import Session
from qtctl.session.stream import Stream
from qtctl.session.targets import Chosen


class Member:
    """One of several guests. ``error``: why it is not followed any more; ``failure``: the last one.

    ``session`` and ``stream`` are there while it is attached and followed; ``attached`` and
    ``begun`` once it was. ``rows`` are items that
    were read and are to come, up to the time ``last_ns``.
    """

    def __init__(self, guest: Chosen) -> None:
        self.guest = guest
        self.session: Session | None = None
        self.stream: Stream | None = None
        self.attached = self.begun = False
        self.follows = self.done = False
        self.error: QtctlError | None = None
        self.failure: Failure | None = None
        self.rows: list[Row] = []
        self.room = asyncio.Event()
        self.last_ns = 0
        self.late = 0
        self._before = Counts()

    @property
    def name(self) -> str:
        """What records and messages call it."""
        return self.guest.name

    @property
    def counts(self) -> Counts:
        """The sums of its streams so far."""
        return self._before if self.stream is None else self._before + self.stream.counts

    def left(self) -> None:
        """Keep the sums of the stream that was left."""
        self._before, self.stream = self.counts, None
