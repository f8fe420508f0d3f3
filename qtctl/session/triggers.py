"""Triggers: an action that runs when a condition holds on a followed guest, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import new_owner
from qtctl.model import GuestEvent, News
from qtctl.monitor.news import MARK, EventQueue
from qtctl.records import schema
from qtctl.records.batch import Batch
from qtctl.records.items import Item
from qtctl.session.conditions import Condition, When
from qtctl.session.session import Session
from qtctl.text.style import counted

ACTIONS = {
    "enable": "PATTERN...: switch events on, until the end",
    "disable": "PATTERN...: switch events off, until the end",
    "mark": "TEXT: put a note into the stream",
    "stop": "pause the guest (QMP stop); it stays paused",
    "dump": "write the ring to a file",
    "run": "COMMAND [ARGUMENT...]: start a program, without a shell",
}
_WORDED = ("enable", "disable", "mark", "run")
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Action:
    """An action; ``kind`` is a key of ``ACTIONS``."""

    kind: str
    words: tuple[str, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Action:
        """Parse an action.

        Raises:
            UsageError: there is no such action, or it has too few or too many words.
        """
        kind, *rest = words or [""]
        if kind not in ACTIONS:
            raise UsageError(
                f"{kind!r} is no action" if kind else "'do' and an action are missing",
                hint=f"one of {', '.join(ACTIONS)}",
            )
        if bool(rest) != (kind in _WORDED):
            lacks = "needs words behind it" if kind in _WORDED else "takes no words"
            raise UsageError(f"'do {kind}' {lacks}", hint=f"{kind} {ACTIONS[kind]}")
        return cls(kind, tuple(rest))

    def __str__(self) -> str:
        return " ".join((self.kind, *self.words))


@dataclass(slots=True)
class Trigger:
    """A condition and its action; at most every ``every_s`` seconds, or ``once``.

    ``waiting`` counts matches since it last acted; ``done``: it does not act again.
    """

    when: When
    action: Action
    once: bool = False
    every_s: float = 1.0
    condition: Condition | None = None
    done: bool = False
    waiting: int = 0
    _fired_s: float = float("-inf")

    def look(self, item: Item, now_s: float) -> tuple[int, Batch | GuestEvent] | None:
        """Check an item; if the trigger is to act now, return how many matched and the first."""
        assert self.condition is not None
        if self.done:
            return None
        count, first = self.condition.matches(item)
        self.waiting += count
        if first is None or now_s - self._fired_s < self.every_s:
            return None
        count, self.waiting, self._fired_s = self.waiting, 0, now_s
        self.done = self.once
        return count, first


@dataclass(frozen=True, slots=True)
class Fired:
    """A trigger that acted after ``count`` matches, the first ``found``; ``outcome`` in words.

    ``time_ns`` is Unix time.
    """

    trigger: Trigger
    count: int
    found: Batch | GuestEvent
    outcome: str
    time_ns: int


def look(triggers: Sequence[Trigger], item: Item) -> list[tuple[Trigger, int, Batch | GuestEvent]]:
    """Return the triggers that act on an item now, their number of matches, and the first match."""
    now_s = time.monotonic()
    found = ((trigger, trigger.look(item, now_s)) for trigger in triggers)
    return [(trigger, *held) for trigger, held in found if held is not None]


async def guest_news(session: Session, stop: asyncio.Event) -> AsyncGenerator[News]:
    """Yield QMP events and marks, with no trace event followed, until ``stop`` is set.

    Raises:
        LinkLost: the monitor went away.
    """
    ear = EventQueue()
    async with session.monitor.listening(ear):
        ends = [asyncio.ensure_future(one) for one in (session.monitor.wait_lost(), stop.wait())]
        try:
            while not any(end.done() for end in ends):
                came = asyncio.ensure_future(ear.wait())
                await asyncio.wait({came, *ends}, return_when="FIRST_COMPLETED")
                came.cancel()
                for news in ear.take():
                    yield news
            if not stop.is_set():
                raise LinkLost(f"lost {session.where}: {ends[0].result()}", hint="qtctl ps")
        finally:
            for end in ends:
                end.cancel()


class DumpRing(Protocol):
    """The ring that the action ``dump`` writes to a file."""

    def add(self, item: Item) -> list[str]:
        """Add an item."""

    def ask(self, reason: str) -> None:
        """Request that the next tick writes it."""

    def tick(self) -> list[str]:
        """Write it if that was requested; return messages for people."""

    def end(self, *, lost: bool) -> list[str]:
        """Write the rest; ``lost``: the guest went away."""


class ActionRunner:
    """Runs the actions of triggers; :meth:`close` restores the events it switched."""

    def __init__(self, session: Session, ring: DumpRing | None) -> None:
        self._session = session
        self.ring = ring
        self._owner = new_owner()
        self._running: dict[Action, asyncio.subprocess.Process] = {}

    async def act(self, trigger: Trigger, count: int, found: Batch | GuestEvent) -> Fired:
        """Run the action; a failure is in the outcome."""
        try:
            outcome = await self._act(trigger, found)
        except QtctlError as error:
            outcome = f"failed: {error.message}"
        return Fired(trigger, count, found, outcome, time.time_ns())

    async def _act(self, trigger: Trigger, found: Batch | GuestEvent) -> str:
        action = trigger.action
        match action.kind:
            case "enable" | "disable":
                chosen, on = Selection.of(*action.words), action.kind == "enable"
                report = await self._session.leasing.switch(self._owner, chosen, on)
                return f"{len(report.changed)} changed"
            case "mark":
                text = " ".join(action.words)
                listeners = await self._session.monitor.announce(MARK, {"text": text})
                return f"on {counted(listeners, 'console')}"
            case "stop":
                await self._session.monitor.execute("stop")
                return "the guest is paused; qtctl qmp cont resumes it"
            case "dump":
                assert self.ring is not None
                self.ring.ask(trigger.when.text)
                return "; ".join(await asyncio.to_thread(self.ring.tick))
        return await self._run(action, found)

    async def _run(self, action: Action, found: Batch | GuestEvent) -> str:
        before = self._running.get(action)
        if before is not None and before.returncode is None:
            return f"not started: pid {before.pid} still runs"
        record = json.dumps(object_of(found))
        try:
            process = await asyncio.create_subprocess_exec(
                *action.words,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "QTCTL_RECORD": record, "QTCTL_TARGET": self._session.target},
            )
        except (OSError, ValueError) as error:
            return f"failed: {getattr(error, 'strerror', None) or error}"
        self._running[action] = process
        return f"pid {process.pid}"

    async def close(self) -> None:
        """Restore what was switched; wait a few seconds for programs, then end them."""
        await self._session.end(self._owner)
        running = [one for one in self._running.values() if one.returncode is None]
        if running:
            waits = [asyncio.ensure_future(one.wait()) for one in running]
            _, late = await asyncio.wait(waits, timeout=_END_S)
            for number in (signal.SIGTERM, signal.SIGKILL):
                if late:
                    for one in running:
                        with contextlib.suppress(ProcessLookupError):
                            one.send_signal(number)
                    _, late = await asyncio.wait(waits, timeout=_END_S)


def object_of(found: Batch | GuestEvent) -> dict[str, object]:
    """Return what a condition matched as an object of schema ``qtctl/1``."""
    if isinstance(found, GuestEvent):
        return schema.to_object(found)
    return schema.record(next(found.records()))
