"""Records of qtctl's own requests, which QEMU traces as it does those of any client.

QEMU handles requests one after another, in its main thread (``monitor/qmp.c``,
``qapi/qmp-dispatch.c``, ``scripts/qapi/commands.py``; checked on 7.2)::

    handle_qmp_command        the request, with its id
    monitor_suspend           monitor, 1
    monitor_qmp_in_band_enqueue, monitor_qmp_in_band_dequeue    a pointer to the request
    monitor_qmp_cmd_in_band   the id
    visit_*                   of the arguments
    qmp_enter_COMMAND         the arguments
    handle_hmp_command        for the human monitor
    qmp_exit_COMMAND
    visit_*                   of the result
    monitor_qmp_respond       the answer, with the id
    monitor_suspend           monitor, -1

The ids of a qtctl have a token, which a lender passes on. So a record belongs to an own request if
it has the token, or if the records around it show which request was handled. Where those are not
traced, ``qmp_enter_COMMAND`` is compared with the requests that were sent.

Before, QEMU reads the request in a thread for monitors, byte by byte: a dozen records each of
``object_dynamic_cast_assert`` and the like. They are told by the time between sending a request and
its answer, by the types that they name, and by the lock counter that is taken for each byte. A
record of which nothing shows whose it is stays, and is counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from enum import IntEnum
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.table import TABLE
from qtctl.model import Clock
from qtctl.monitor.sent import Sent
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Record, StringColumn
from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable

_MARKS = (
    "handle_hmp_command",
    "handle_qmp_command",
    "monitor_protocol_event_emit",
    "monitor_protocol_event_handler",
    "monitor_protocol_event_queue",
    "monitor_qmp_cmd_in_band",
    "monitor_qmp_in_band_dequeue",
    "monitor_qmp_in_band_enqueue",
    "monitor_qmp_respond",
    "monitor_suspend",
)
_ENTER, _EXIT, _VISIT, _QMP_EVENT = "qmp_enter_", "qmp_exit_", "visit_", "monitor_protocol_event_"
_RECEIVED = "handle_qmp_command"
_NAMING = {
    "object_class_dynamic_cast_assert": ("type", ("chardev-socket", "qio-channel-socket")),
    "object_dynamic_cast_assert": ("type", ("chardev-socket", "qio-channel-socket")),
    "qemu_mutex_lock": ("file", ("/monitor/",)),
    "qemu_mutex_locked": ("file", ("/monitor/",)),
    "qemu_mutex_unlock": ("file", ("/monitor/",)),
}
"""Events that name what they are about: the argument, and what it holds for a monitor."""
_ALSO_OWN = ("aio_co_", "lockcnt_", "object_", "qemu_aio_", "qemu_coroutine_", "qemu_mutex_")
"""Prefixes of events that own requests cause as other work does."""
_EXACT_SLACK_NS = 1_000_000
_LATE_NS = 20_000_000
_COARSE_SLACK_NS = 1_000_000_000
"""How far times of records may be off: of another clock; of reading them; of a system log."""


class Whose(IntEnum):
    """Whether a record is of an own request."""

    UNSURE = -1
    OTHER = 0
    OWN = 1


class _Role(IntEnum):
    """What an event has to do with requests: MARK shows whose the records around it are."""

    NONE = 0
    MARK = 1
    VISIT = 2
    CAUSED = 3


class _Early(NamedTuple):
    """A record that comes before the one which shows whose its request is."""

    row: int
    request: object = None
    monitor: object = None


def is_traced(names: Iterable[str]) -> bool:
    """Return whether own requests may cause records of these events."""
    return any(map(_role, names))


class OwnTraffic:
    """Leaves the records of own requests out of a stream; give it all batches, in order.

    ``traced`` are the events that are on. ``sent`` are the own requests. ``begun``: the stream
    begins while QEMU handles an own request, the one that switched the events on. Requests answered
    before the Unix time ``since_ns`` have no record in the stream. ``counts.own``
    counts the records left out, ``counts.perhaps_own`` those that stay as nothing shows whose
    request it was. ``edges``: the stream switches events on and off, so that all that requests may
    cause outside of its window is filtered.
    """

    def __init__(
        self,
        table: EventTable,
        traced: Collection[str],
        sent: Sent,
        counts: Counts,
        *,
        begun: bool,
        edges: bool = False,
        since_ns: int = 0,
    ) -> None:
        # Lines of text, event -1, find the last place.
        self._roles = np.array([*map(_role, table.names), 0], np.uint8)
        self._polled = set[int]()
        """The lock counters that QEMU takes for each byte that it reads from a monitor."""
        self._ids_traced = "monitor_qmp_cmd_in_band" in traced
        self._answers_traced = "monitor_qmp_respond" in traced
        self._sent, self._counts, self._since_ns = sent, counts, since_ns
        self._edges = edges
        self._received = self._command = Whose.UNSURE
        self._running = Whose.OWN if begun and self._ids_traced else Whose.UNSURE
        self._visiting = self._running if self._answers_traced else Whose.UNSURE
        # Where the ids may go off again, nothing is known of what follows an answer.
        self._between = Whose.OTHER if self._ids_traced else Whose.UNSURE
        self._answered = False
        """Whether the answer to the last request was traced."""
        self._tid = self._reader_tid = -1
        self._requests: dict[object, Whose] = {}
        self._early: list[_Early] = []

    def others(
        self, batch: Batch, inside: BoolArray | None = None
    ) -> tuple[Batch, BoolArray | None]:
        """Return a batch without the records of own requests, and its rows ``inside`` the window.

        ``inside`` is a mask of the rows of ``batch``, None for all.
        """
        roles = self._roles[batch.event]
        if not roles.any():
            return batch, inside
        whose = np.full(len(batch), Whose.OTHER, np.int8)
        foreign = self._handled(batch, roles, whose)
        self._read(batch, roles == _Role.CAUSED, whose, foreign)
        own, counts = whose == Whose.OWN, self._counts
        counts.own += int(own.sum())
        left_out = own
        if inside is not None and self._edges:
            left_out = own | ((roles > _Role.NONE) & ~inside)
        edges = int(left_out.sum() - own.sum())
        counts.read, counts.filtered = counts.read + edges, counts.filtered + edges
        counts.perhaps_own += int(((whose == Whose.UNSURE) & ~left_out).sum())
        if not left_out.any():
            return batch, inside
        return batch.select(~left_out), None if inside is None else inside[~left_out]

    def _handled(
        self, batch: Batch, roles: NDArray[np.uint8], whose: NDArray[np.int8]
    ) -> list[int]:
        """Judge the records of handling requests; return when QEMU had read those of others."""
        marks, visits = (np.flatnonzero(roles == role) for role in (_Role.MARK, _Role.VISIT))
        changes, visiting, foreign = [-1], [self._visiting], list[int]()
        self._early = []
        for row, record in zip(marks.tolist(), batch.records(marks), strict=True):
            if record.name.startswith(_QMP_EVENT):
                visiting[-1] = Whose.UNSURE  # the visits before it may be of this
            else:
                whose[row] = self._judge(row, record, batch.binary, whose)
            if record.name == _RECEIVED and not whose[row]:
                foreign.append(record.time_ns)
            changes.append(row)
            visiting.append(self._visiting)
        if len(visits):
            whose[visits] = np.array(visiting, np.int8)[np.searchsorted(changes, visits) - 1]
            if self._tid >= 0:
                whose[visits[batch.tid[visits] != self._tid]] = Whose.OTHER
        return foreign

    def _read(
        self, batch: Batch, caused: BoolArray, whose: NDArray[np.int8], foreign: list[int]
    ) -> None:
        """Judge the records of reading own requests, by their times and what they name."""
        times = batch.time_ns
        first, last = int(times.min()) - _LATE_NS, int(times.max()) + _LATE_NS
        if not (flights := self._sent.between(max(first, self._since_ns), last)):
            return
        exact = batch.clock is Clock.REALTIME and not TABLE[batch.backend].whole_seconds
        slack_ns = np.where(batch.arrived | (not exact), _LATE_NS, _EXACT_SLACK_NS)
        for flight in flights:
            from_ns = max((t for t in foreign if flight.from_ns <= t <= flight.until_ns), default=0)
            from_ns = max(from_ns, flight.from_ns)
            within = (times >= from_ns - slack_ns) & (times <= flight.until_ns + slack_ns)
            rows = np.flatnonzero(caused & within)
            whose[rows] = Whose.UNSURE
            rows = rows[slack_ns[rows] == _EXACT_SLACK_NS]
            reading = self._reads(batch, rows, flight.size)
            if self._reader_tid >= 0:
                reading = reading[np.isin(batch.tid[reading], (self._reader_tid, self._tid))]
            whose[reading] = Whose.OWN

    def _reads(self, batch: Batch, rows: NDArray[np.intp], size: int) -> NDArray[np.intp]:
        """Return those of ``rows`` that are of a monitor, by their arguments."""
        found = [np.empty(0, np.intp)]
        part = batch.select(rows)
        for event, places in part.groups().items():
            name = batch.names[event]
            argument, words = _NAMING.get(name, ("lockcnt", ()))
            columns = part.arguments(event)
            column = columns.values.get(argument)
            places = np.where(columns.ok, places, -1)
            if isinstance(column, StringColumn):
                named = [any(word in text for word in words) for text in column.texts]
                found.append(places[np.array(named, np.bool_)[column.codes]])
            elif column is not None:
                counters, counts = np.unique(column[columns.ok], return_counts=True)
                self._polled.update(counters[counts >= size].tolist())
                found.append(places[np.isin(column, list(self._polled))])
        places = np.concatenate(found)
        return rows[places[places >= 0]]

    def _judge(self, row: int, record: Record, binary: bool, whose: NDArray[np.int8]) -> Whose:
        """Return whose a record is, and note what it shows of those that follow, and precede."""
        args = record.args
        match record.name:
            case "handle_qmp_command":
                self._reader_tid = _tid(record)
                self._received = self._by_id(record, binary)
                return self._received
            case "monitor_suspend":
                if int(args.get("cnt") or 0) <= 0:
                    return self._running
                return self._before_it_runs(_Early(row, None, args.get("ptr")), self._received)
            case "monitor_qmp_in_band_enqueue":
                early = _Early(row, args.get("req"), args.get("mon"))
                self._requests[early.request] = self._received
                return self._before_it_runs(early, self._received)
            case "monitor_qmp_in_band_dequeue":
                self._tid = _tid(record)
                early = _Early(row, args.get("req"), None)
                self._running = self._requests.pop(early.request, Whose.UNSURE)
                self._visiting = self._between
                return self._before_it_runs(early, self._running)
            case "handle_hmp_command" if self._answered:
                return Whose.OTHER  # of a human monitor: no request is handled
            case "monitor_qmp_cmd_in_band":
                self._tid = _tid(record)
                self._answered = False
                self._running = self._visiting = self._by_id(record, binary)
                self._decide_early(whose)
            case "monitor_qmp_respond":
                answered = self._by_id(record, binary)
                if answered is Whose.OWN:
                    self._running = answered
                if answered in (Whose.UNSURE, self._running):
                    self._visiting = self._between
                    self._answered = True
                    return self._running
                return answered  # a QMP event, or an answer on another monitor
            case _ if not self._ids_traced:
                return self._by_contents(record)
        return self._running

    def _before_it_runs(self, early: _Early, known: Whose) -> Whose:
        if known is Whose.UNSURE:
            self._early.append(early)
        return known

    def _by_id(self, record: Record, binary: bool) -> Whose:
        """Return whose a record with an id is; unsure if its text may be cut before the id."""
        text = _text_of(record, binary)
        if self._sent.mark in text:
            return Whose.OWN
        whole = record.raw is None or text.rstrip('\0"').endswith("}")
        return Whose.OTHER if whole else Whose.UNSURE

    def _by_contents(self, record: Record) -> Whose:
        """Compare a command, where no ids are traced, with the requests that were sent."""
        name, known = record.name, self._command
        if name.startswith(_ENTER) or known is Whose.UNSURE:
            command = name.removeprefix(_ENTER).removeprefix(_EXIT)
            if name == "handle_hmp_command":
                command = "human_monitor_command"
            from_ns, until_ns = _times(record)
            from_ns = max(from_ns, self._since_ns)
            known = Whose(self._sent.take(command, _arguments_in(record), from_ns, until_ns))
        if name.startswith((_ENTER, _EXIT)):
            self._command = known if name.startswith(_ENTER) else Whose.UNSURE
        return known

    def _decide_early(self, whose: NDArray[np.int8]) -> None:
        """Decide on the records before: the last request that was dequeued is handled now."""
        request = next((one.request for one in reversed(self._early) if one.monitor is None), None)
        of_it = [one for one in self._early if one.request == request]
        monitors = {one.monitor for one in of_it}
        for one in self._early:
            if one in of_it or (one.request is None and one.monitor in monitors):
                whose[one.row] = self._running
        self._early = []


def _role(name: str) -> _Role:
    if name in _MARKS or name.startswith((_ENTER, _EXIT)):
        return _Role.MARK
    if name.startswith(_VISIT):
        return _Role.VISIT
    return _Role.CAUSED if name.startswith(_ALSO_OWN) else _Role.NONE


def _tid(record: Record) -> int:
    return -1 if record.tid is None else record.tid


def _text_of(record: Record, binary: bool) -> str:
    if record.raw is None:
        return " ".join(str(value) for value in record.args.values())
    return bytes.fromhex(record.raw).decode("latin-1") if binary else record.raw


def _arguments_in(record: Record) -> object:
    """Return the arguments of a command that a record holds; None if its event has none."""
    if record.name.startswith(_EXIT):
        return None
    if record.name == "handle_hmp_command":
        return {"command-line": record.args.get("cmdline")}
    try:
        return cast(object, json.loads(str(record.args.get("json", record.raw))))
    except ValueError:
        return record.raw


def _times(record: Record) -> tuple[int, int]:
    """Return the earliest and the latest time of a record."""
    coarse = record.clock is not Clock.REALTIME
    slack = _COARSE_SLACK_NS if coarse else _EXACT_SLACK_NS
    return record.time_ns - slack, record.time_ns + slack
