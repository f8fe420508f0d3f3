"""Sends a stream to a receiver of OTLP: records as logs, pairs as spans, figures as metrics."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qtctl.analysis.latency import Question, Spans
from qtctl.analysis.meters import Meters, Pair
from qtctl.errors import QtctlError
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import readable
from qtctl.records.items import Item
from qtctl.records.origins import UNKNOWN, Origin
from qtctl.records.schema import to_object
from qtctl.version import VERSION
from qtctl.writers.base import Source
from qtctl.writers.otlp import records
from qtctl.writers.otlp.fields import MessageBlock, attribute, field, text_field, written
from qtctl.writers.otlp.figures import metrics
from qtctl.writers.otlp.sender import Endpoint, OtlpRequest, Sender

_PART_BYTES = 2 << 20
"""A receiver may refuse more than 4 MiB at once."""
_FIGURES_S = 10.0
_END_S, STOP_S = 60.0, 3.0
_SCOPE = field(1, text_field(1, "qtctl"), text_field(2, VERSION))


class GuestFacts(NamedTuple):
    """The guest of records that do not say more: its name, and attributes of its resource."""

    name: str
    pid: int | None = None
    facts: Mapping[str, str] = {}


def resource(origin: Origin, guest: GuestFacts) -> bytes:
    """Return the field of a resource: who wrote the records of one process.

    The names are those of OpenTelemetry's semantic conventions where it has one.
    """
    known: dict[str, str | int | None] = {
        "service.name": "qemu",
        "host.name": origin.host or socket.gethostname(),
        "vm.name": origin.guest or guest.name or None,
        "process.pid": origin.pid if origin.pid is not None else guest.pid,
        **guest.facts,
        "qtctl.run": origin.run,
        "log.file.name": origin.file,
    }
    return field(1, *(attribute(1, key, one) for key, one in known.items() if one is not None))


class OtlpWriter:
    """Encodes items in the thread that writes them, and sends them in another.

    ``waits``: where the receiver is slow, writing waits; else what has no room is dropped, and
    counted. Call :meth:`tick` about once a second.

    Raises:
        ConnectionFailed: there is no receiver of OTLP at ``endpoint``.
        UsageError: a pair does not fit the events; from :func:`open_endpoint`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        guest: GuestFacts,
        pairs: Sequence[Pair] = (),
        *,
        waits: bool = False,
    ) -> None:
        self.sender = Sender(endpoint, waits=waits)
        self.timeless = 0
        """Pairs that made no span: their times are since boot, and spans have Unix times."""
        self._guest = guest
        self._meters = Meters(guest.name, pairs, on_spans=self._span)
        self._random = np.random.default_rng()
        self._held: list[OtlpRequest] = []
        self._size = 0
        self._lock = threading.Lock()
        self._began_ns = time.time_ns()
        self._told = time.monotonic()
        self.sender.check()

    def write(self, item: Item) -> None:
        """Send the next batch, loss or note."""
        now_ns = time.time_ns()
        self._meters.take(item)
        if not isinstance(item, Batch):
            note = records.note_record(to_object(item), now_ns)
            self._hold("logs", Origin(guest=getattr(item, "guest", None)), note, 0)
            return
        for origin, batch in item.by_process():
            self._put("logs", origin, records.log_records(batch, now_ns))
        self._meters.settle()

    def _span(self, pair: Pair, found: Spans) -> None:
        if found.batch is None:
            return
        if found.batch.clock is Clock.MONOTONIC:
            self.timeless += len(found.row)
        else:
            origins = found.batch.origins
            origin = origins[found.batch.origin[found.row[0]]].process
            self._put("traces", origin, records.spans(pair.start, found, self._random))

    def _put(self, signal: str, origin: Origin, blocks: Sequence[MessageBlock]) -> None:
        for data, count in written(blocks, 2, _PART_BYTES):
            self._hold(signal, origin, data.tobytes(), count if signal == "logs" else 0)

    def _hold(self, signal: str, origin: Origin, content: bytes, count: int) -> None:
        """Keep a message until there are enough for a request."""
        body = field(1, resource(origin, self._guest), field(2, _SCOPE, content))
        with self._lock:
            self._held.append(OtlpRequest(signal, body, count))
            self._size += len(body)
        if self._size >= _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is kept."""
        with self._lock:
            held, self._held, self._size = self._held, [], 0
        for signal in dict.fromkeys(one.signal for one in held):
            some = [one for one in held if one.signal == signal]
            body = b"".join(one.body for one in some)
            self.sender.put(OtlpRequest(signal, body, sum(one.records for one in some)))

    def tick(self) -> None:
        """Send what is kept, and now and then the figures."""
        if time.monotonic() - self._told >= _FIGURES_S:
            self._figures()
        self.flush()

    def _figures(self) -> None:
        self._told, now_ns = time.monotonic(), time.time_ns()
        dropped = self.sender.dropped.total()
        losses, rows = self._meters.losses(), self._meters.records()
        for guest in dict.fromkeys([*(one.guest for one in losses), *(one.guest for one in rows)]):
            found = metrics(self._meters, dropped, guest, self._began_ns, now_ns)
            content = b"".join(field(2, one.SerializeToString()) for one in found)
            origin = UNKNOWN if guest == self._guest.name else Origin(guest=guest)
            self._hold("metrics", origin, content, 0)

    def stop(self) -> None:
        """Stop soon: send what is queued for a moment, and no longer."""
        self.sender.end_in(STOP_S)

    def end(self, seconds: float) -> None:
        """Send the rest, for at most so long."""
        self._figures()
        self.flush()
        self.sender.close(seconds)

    def finish(self) -> None:
        """Send the rest, and wait until it was taken.

        Raises:
            QtctlError: the receiver did not take all.
        """
        self.end(_END_S)
        if dropped := self.sender.dropped.total():
            reasons = "; ".join(f"{n}: {why}" for why, n in self.sender.dropped.items())
            raise QtctlError(
                f"{self.sender.endpoint} did not take {dropped} records: {readable(reasons)}"
            )

    @property
    def problem(self) -> str:
        """The newest reason why the receiver did not take something; empty if it took all."""
        found = self.sender.problem
        return found and f"{self.sender.endpoint}: {found}"

    @property
    def dropped(self) -> int:
        """How many records the receiver did not take."""
        return self.sender.dropped.total()

    def account(self) -> Mapping[str, Any]:
        """Return what was sent, and what was not, by the reason."""
        return {"sent": self.sender.sent, "dropped": dict(self.sender.dropped)}

    def words(self) -> str:
        """Return what was sent, and what was not, in words."""
        reasons = "".join(f"; {n} dropped: {why}" for why, n in self.sender.dropped.items())
        timeless = f"; {self.timeless} pairs made no span: their times are since boot"
        sums = f"{self.sender.sent} sent, {self.dropped} dropped"
        return f"{sums}{reasons}{timeless if self.timeless else ''}"

    def close(self) -> None:
        """Stop sending."""
        self.sender.close(0)


def open_endpoint(endpoint: str, source: Source) -> OtlpWriter:
    """Return a writer that sends what it is given to ``endpoint``.

    Raises: what :class:`OtlpWriter` does.
    """
    table = source.table
    ask = partial(Question.ask, names=table.names, declared=table.declarations, source="the file")
    pairs = [Pair(start, end, ask(start, end, key=key)) for start, end, key in source.pairs]
    return OtlpWriter(Endpoint.parse(endpoint), GuestFacts(""), pairs, waits=True)
