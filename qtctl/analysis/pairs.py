"""Pairing of START and END records by arguments that are equal in both.

Columns in, columns out. Only open starts are kept, at most ``limit`` of them. Records are paired
in the order in which they came, regardless of their times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis import kernel as pairing
from qtctl.analysis.fingerprints import combined, hashed
from qtctl.analysis.groups import TID
from qtctl.errors import UsageError
from qtctl.model import Argument, Declaration, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.origins import Origin
from qtctl.records.printf import make_plan

NO_KEY: tuple[str, ...] = ()
"""No key: an END belongs to the last START."""

_REQUESTS = frozenset({"cid", "tag", "xid", "req_id", "reqid", "request_id", "cookie", "seq"})
"""Names of numbers that identify a request, at least within its queue or device."""
_QUEUE_NAMES = frozenset({"sqid", "cqid", "qid", "q_index", "queue"})
_SCOPES = _QUEUE_NAMES | {"id", "idx", "index", "cpu_index", "name", "target", "lun", "channel"}
"""Names of arguments that identify the queue, device or thread that a request is of."""
_QUEUES = (("sqid", "cqid"),)
"""Arguments of START and END that name one queue: drivers give each submission queue its own
completion queue, of the same number."""
_DEVICES = frozenset({"vdev", "dev", "s", "state", "n", "nic", "bus", "bs", "blk", "chrdev", "job"})
"""Names of pointers to a device or to its state, of which a device has one for all requests."""

_OPEN_LIMIT = 1 << 20
_ROOM = 1 << 10


@dataclass(slots=True)
class PairCounts:
    """How many records have been paired so far, and why others have not.

    ``paired`` STARTs with an END; ``in_flight`` STARTs that are still open; ``unpaired`` ENDs
    without a START; ``unseen`` ENDs that are the first record of their key since the begin or a
    loss, so that their START came before (not in a run that begins in the file); ``reused`` STARTs
    whose key started again before its END; ``dropped`` STARTs that were open at a loss, whose END
    may be lost; ``forgotten`` STARTs that were open for longest when there were too many;
    ``unreadable`` records without a key.
    """

    paired: int = 0
    in_flight: int = 0
    unpaired: int = 0
    unseen: int = 0
    reused: int = 0
    dropped: int = 0
    forgotten: int = 0
    unreadable: int = 0

    def forget_but_open(self) -> None:
        """Reset the counts; open STARTs stay in flight."""
        for one in fields(self):
            if one.name != "in_flight":
                setattr(self, one.name, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Columns with one row a pair, in the order of the ENDs; times are in ns.

    ``tag`` is the tag of the START, ``row`` the END's row in its batch.
    """

    start_ns: Int64Array
    end_ns: Int64Array
    tag: NDArray[np.int32]
    row: Int64Array

    def __len__(self) -> int:
        return len(self.row)

    def select(self, rows: BoolArray) -> Pairs:
        """Return the pairs of a mask."""
        return Pairs(self.start_ns[rows], self.end_ns[rows], self.tag[rows], self.row[rows])


class Pairing:
    """Pairs the events ``starts`` with ``ends`` of a stream of batches by the arguments ``key``.

    An event in both ends the open START and starts again. Records of two processes are no pair.
    Numbers are compared as 64 bits; several arguments, or a text, by a 64-bit hash. ``counts`` may
    be those of others, too. With many thousands of keys, some may be mistaken for seen ones,
    and ``unseen`` ENDs for ``unpaired``.
    """

    def __init__(
        self,
        table: EventTable,
        starts: Collection[str],
        ends: Collection[str],
        key: Sequence[str],
        *,
        limit: int = _OPEN_LIMIT,
        counts: PairCounts | None = None,
    ) -> None:
        self.counts = PairCounts() if counts is None else counts
        self._sides = key_sides(key)
        self._first: Origin | None = None
        self._runs: set[Origin] = set()
        self._cut_runs: set[Origin] = set()
        # One more than the number of events: lines of text are event -1.
        self._roles = np.zeros(len(table) + 1, np.uint8)
        for names, role in ((starts, pairing.START), (ends, pairing.END)):
            for name in table.indices.keys() & names:
                self._roles[table.indices[name]] |= role
        self._limit = limit
        self._tally = np.zeros(5, np.int64)
        self._open = _OpenStarts.make(min(_ROOM, limit))
        self._met = np.zeros(pairing.MET_WORDS, np.uint64)

    def feed(self, batch: Batch, tags: NDArray[np.int32] | None = None) -> Pairs:
        """Pair the next records; a pair has the tag (int32, one a row) of its START."""
        role, key = self._roles[batch.event], np.zeros(len(batch), np.uint64)
        for event, rows in batch.groups().items():
            if self._roles[event]:
                key[rows], good = self._keys(batch, event, rows)
                role[rows[~good]] = 0
                self.counts.unreadable += int(len(rows) - np.count_nonzero(good))
        key = self._apart(batch, role, key)
        time_ns = np.ascontiguousarray(batch.time_ns)
        given = np.zeros(len(batch), np.int32) if tags is None else np.ascontiguousarray(tags)
        begins, ends = np.empty(len(batch), np.int64), np.empty(len(batch), np.int64)
        marks = np.empty(len(batch), np.int32)
        self._tally[1:] = 0
        before = int(self._tally[0])
        records, pairs, at = (role, key, time_ns, given), (begins, marks, ends), 0
        while (at := self._run(records, pairs, at)) < len(batch):
            self._make_room()
        counts, (in_flight, found, reused, unpaired, unseen) = self.counts, self._tally.tolist()
        counts.paired += found
        counts.in_flight += in_flight - before
        counts.reused += reused
        counts.unpaired += unpaired
        counts.unseen += unseen
        row = ends[:found].copy()
        return Pairs(begins[:found].copy(), time_ns[row], marks[:found].copy(), row)

    def lose(self) -> None:
        """Drop all open STARTs at a loss: their ENDs may be lost."""
        self.counts.dropped += int(self._tally[0])
        self.counts.in_flight -= int(self._tally[0])
        self._open = _OpenStarts.make(min(_ROOM, self._limit))
        self._met[:] = 0
        self._cut_runs |= self._runs
        self._tally[0] = 0

    def _keys(self, batch: Batch, event: int, rows: Int64Array) -> tuple[NDArray[Any], BoolArray]:
        """Return the keys of an event's rows, and a mask of the rows that have one."""
        good = np.ones(len(rows), np.bool_)
        columns: list[Column] = []
        for name in self._sides[int(self._roles[event] == pairing.END)]:
            if name == TID:
                tid = batch.tid[rows]
                good &= tid >= 0
                columns.append(tid.astype(np.int64))
                continue
            arguments = batch.arguments(event)
            good &= arguments.ok
            if name in arguments.values:
                columns.append(arguments.values[name])
            else:
                good[:] = False
        keys = combined(*map(hashed, columns)) if columns else np.zeros(len(rows), np.uint64)
        return keys, good

    def _apart(
        self, batch: Batch, role: NDArray[np.uint8], key: NDArray[np.uint64]
    ) -> NDArray[np.uint64]:
        """Return keys that differ between processes; mark the rows of whole runs in ``role``."""
        codes, processes = batch.processes()
        whole = [one.run is not None and one not in self._cut_runs for one in processes]
        if any(whole):
            role[np.array(whole)[codes] & (role > 0)] |= pairing.WHOLE
            self._runs.update(one for one in processes if one.run is not None)
        self._first = self._first or next(iter(processes), None)
        if all(one == self._first for one in processes):
            return key
        salt = np.array([hash(one) for one in processes], np.int64).view(np.uint64)[codes]
        own = np.array([one == self._first for one in processes])[codes]
        return np.where(own, key, combined(key, salt))

    def _run(self, rows: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]], at: int) -> int:
        """Run the kernel on columns of records from ``at`` on; return the record reached."""
        table = self._open
        state = (table.used, table.keys, table.times, table.tags, self._tally)
        arguments: list[Any] = [column.data for column in (*rows, *state, *found)]
        arguments += [at, table.room, self._met.data]
        return pairing.match(*arguments)

    def _make_room(self) -> None:
        """Make room for more open starts; at the limit, forget the older half."""
        old = self._open
        rows = np.flatnonzero(old.used)
        if old.room == self._limit:
            newest = np.argsort(old.times[rows], kind="stable")[(len(rows) + 1) // 2 :]
            self.counts.forgotten += len(rows) - len(newest)
            rows = rows[newest]
        self._open = _OpenStarts.make(min(4 * old.room, self._limit))
        self._tally[0] = 0
        # They start again, in a larger table; only the number of open starts changes.
        role, nothing = np.full(len(rows), pairing.START, np.uint8), np.empty(0, np.int64)
        kept = (role, old.keys[rows], old.times[rows], old.tags[rows])
        self._run(kept, (nothing, nothing.astype(np.int32), nothing), 0)


@dataclass(frozen=True, slots=True, eq=False)
class _OpenStarts:
    """The table of open starts for the kernel, with room for ``room`` starts."""

    room: int
    used: NDArray[np.uint8]
    keys: NDArray[np.uint64]
    times: Int64Array
    tags: NDArray[np.int32]

    @classmethod
    def make(cls, room: int) -> _OpenStarts:
        size = 1 << (2 * room).bit_length()
        return cls(
            room,
            np.zeros(size, np.uint8),
            np.empty(size, np.uint64),
            np.empty(size, np.int64),
            np.empty(size, np.int32),
        )


def key_sides(key: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments of a key in START and in END: ``sqid=cqid`` has another name in each."""
    sides = [name.partition("=") for name in key]
    return [one for one, _, _ in sides], [two or one for one, _, two in sides]


def learn_key(starts: Sequence[Declaration], ends: Sequence[Declaration]) -> tuple[str, ...]:
    """Return the arguments that identify which END belongs to which START.

    They are the pointers that all events share, and the numbers by whose names QEMU's declarations
    (7.2 to 11.1) identify a request. Other arguments are none: they may change in between.

    Raises:
        UsageError: the events share nothing, or nothing that identifies a request.
    """
    shared = _shared([*starts, *ends])
    names = [one.name for one in shared]
    pointers = [one.name for one in shared if one.kind is Kind.POINTER]
    numbers = [name for name in names if name in _REQUESTS or name in _SCOPES]
    queues = [
        f"{one}={two}"
        for one, two in _QUEUES
        if one not in names and two not in names and _have(starts, one) and _have(ends, two)
    ]
    key = (*pointers, *queues, *numbers)
    one, two = starts[0].name, ends[0].name
    if not names:
        raise UsageError(
            f"{one} and {two} share no argument that identifies a pair",
            hint=f"--key {TID} (the same thread), or --key none (the last one)",
        )
    if "cid" in numbers and not (pointers or queues or set(numbers) & _QUEUE_NAMES):
        raise UsageError(
            f"{one} and {two} share cid, which repeats across queues",
            hint="--key cid if the guest uses one queue, or events that have the queue, too",
        )
    if len(names) == 1 and not key:
        raise UsageError(
            f"{one} and {two} share only {names[0]}, which may not identify a pair",
            hint=f"--key {names[0]}, --key {TID} (the same thread), or --key none (the last one)",
        )
    request = not _DEVICES.issuperset(pointers) or not _REQUESTS.isdisjoint(numbers)
    if request or (len(names) == len(key)):
        return key
    raise UsageError(
        f"{one} and {two} share {', '.join(names)}: which of them identify a pair?",
        hint=f"--key {','.join(key or names[:1])}, or --key {','.join(names)}",
    )


def request_names(declaration: Declaration) -> list[str]:
    """Return the arguments of an event that name one request, not the device that it is of."""
    return [
        one.name
        for one in _printed(declaration)
        if (one.kind is Kind.POINTER and one.name not in _DEVICES) or one.name in _REQUESTS
    ]


def check_key(
    key: Sequence[str], starts: Sequence[Declaration], ends: Sequence[Declaration]
) -> None:
    """Check a key that was given.

    Raises:
        UsageError: an event has no such argument, or one is a text and another a number.
    """
    shared = [one.name for one in _shared([*starts, *ends])]
    sides = key_sides(key)
    if sides[0] != sides[1] and {one.name for one in starts} & {one.name for one in ends}:
        raise UsageError("an event that is both START and END has one name for each argument")
    for names in zip(*sides, strict=True):
        if names == (TID, TID):
            continue
        kinds = set()
        for name, declarations in zip(names, (starts, ends), strict=True):
            for declaration in declarations:
                kind = {one.name: one.kind for one in _printed(declaration)}.get(name)
                if kind is None:
                    raise UsageError(
                        f"{declaration.name} has no argument {name!r}",
                        hint=f"--key {','.join(shared) or TID}",
                    )
                kinds.add(kind is Kind.STRING)
        if len(kinds) > 1:
            words = " and ".join(map(repr, dict.fromkeys(names)))
            raise UsageError(f"{words} is a text in one of the events and a number in another")


ENDINGS = (
    *("complete", "completed", "completion", "done", "end", "return", "finish", "finished"),
    *("cb", "cancel", "cancelled", "abort", "aborted", "fail", "failed", "error"),
)
"""Last words of the names of events that end a request."""


def other_ends(
    start: str, ends: Collection[str], key: Sequence[str], declared: Mapping[str, Declaration]
) -> list[str]:
    """Return further events that may end what ``start`` began, by their names and arguments."""
    family = start.split("_")[:2]
    needed = set(key_sides(key)[1]) - {TID}
    return [
        name
        for name, declaration in declared.items()
        if name not in ends
        and name != start
        and name.split("_")[:2] == family
        and name.rpartition("_")[2] in ENDINGS
        and needed
        and needed <= {one.name for one in _printed(declaration)}
    ]


def _have(declarations: Sequence[Declaration], name: str) -> bool:
    return all(any(one.name == name for one in _printed(each)) for each in declarations)


def _shared(declarations: Sequence[Declaration]) -> list[Argument]:
    """Return the arguments that all events print, with the same name and type."""
    first, *others = map(_printed, declarations)
    have = [{(one.name, one.kind, one.ctype) for one in arguments} for arguments in others]
    return [one for one in first if all((one.name, one.kind, one.ctype) in more for more in have)]


def _printed(declaration: Declaration) -> list[Argument]:
    hidden = make_plan(declaration).hidden
    return [one for one in declaration.arguments if one.name not in hidden]
