"""Several guests at once: each is attached and followed by a task of its own.

So one that hangs or ends delays no other. ``merged_stream`` merges what the tasks read.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

from qtctl.errors import ConnectionFailed, LinkLost, QtctlError, unexpected
from qtctl.events.states import States
from qtctl.model import Declaration, EventState, Failure
from qtctl.session.follow import Follow
from qtctl.session.member import Member
from qtctl.session.merged_stream import MergedStream
from qtctl.session.names import Names
from qtctl.session.session import Session
from qtctl.session.targets import Chosen
from qtctl.session.triggers import guest_news

_GRACE_STEPS, _GRACE_STEP_S = 20, 0.005
"""How long a start waits for those that do not answer, once another does: 0.1 s of our own time."""
_AT_ONCE, _TURN_S = 4, 1.0
"""So many guests are attached, or begun, at once; one that hangs keeps others no longer waiting."""
_AGAIN_S = 0.5
_MORE_AGAIN_S = 2.0

Attaching = Callable[[Chosen], AbstractAsyncContextManager[Session]]


class Several:
    """Guests that are attached at once; what verbs need of a :class:`Session`, for all of them.

    ``attaching`` attaches to one. Entering waits until each guest answers or fails, but for those
    that hang no longer than 0.1 s: they join when they answer. ``waits``: also those join that are
    not there yet, and those that come back. ``failed`` is called for each that fails for good.

    Raises:
        QtctlError: none could be attached; the error of the first.
    """

    def __init__(
        self,
        guests: Sequence[Chosen],
        attaching: Attaching,
        failed: Callable[[Chosen, QtctlError], None],
        stop: asyncio.Event,
        *,
        waits: bool = False,
    ) -> None:
        self.members = [Member(guest) for guest in guests]
        self._attaching = attaching
        self._failed = failed
        self._stop = stop
        self._waits = waits
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._closing = asyncio.Event()
        self._into: MergedStream | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(self._serve(one)) for one in self.members]
        try:
            await self.settled(lambda one: one.attached)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        for one, task in zip(self.members, self._tasks, strict=True):
            if not one.follows:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settled(self, there: Callable[[Member], bool]) -> None:
        """Wait until a guest is ``there``, and for the others while they make progress.

        Raises:
            QtctlError: all failed; the error of the first.
        """
        steps = 0
        while pending := [one for one in self.members if not there(one) and one.error is None]:
            some = any(map(there, self.members))
            if some and steps >= _GRACE_STEPS:
                break
            self._changed.clear()
            stopped = asyncio.ensure_future(self._stop.wait())
            changed = asyncio.ensure_future(self._changed.wait())
            timeout_s = _GRACE_STEP_S if some else None
            await asyncio.wait({stopped, changed}, timeout=timeout_s, return_when="FIRST_COMPLETED")
            steps = 0 if changed.done() else steps + 1
            for task in (stopped, changed):
                task.cancel()
            if self._stop.is_set() and (not some or len(pending) == len(self.members)):
                raise asyncio.CancelledError
        if not any(map(there, self.members)):
            raise next(one.error for one in self.members if one.error is not None)

    def changed(self) -> None:
        """Wake those that wait for a guest to attach, begin or end."""
        self._changed.set()
        if self._into is not None:
            self._into.wake()

    async def next_change(self) -> None:
        """Wait until a guest attaches, begins or ends."""
        self._changed.clear()
        await self._changed.wait()

    def may_come(self) -> bool:
        """Return whether a guest that is not followed yet may be."""
        return any(one.error is None and not one.done for one in self.members)

    async def _serve(self, one: Member) -> None:
        """Attach to a guest, and follow it when that is wanted; again while it is waited for."""
        pause_s, problem = _AGAIN_S, QtctlError("")
        while True:
            try:
                await self._attached(one)
                return
            except (ConnectionFailed, LinkLost) as error:
                again, problem = self._waits, error
                pause_s = _AGAIN_S if isinstance(error, LinkLost) else pause_s
            except QtctlError as error:
                again, problem = False, error
            except Exception as error:
                again, problem = False, unexpected(error)
            self._report(one, problem, again=again)
            self.changed()
            if not again or self._closing.is_set():
                return
            await asyncio.sleep(pause_s)
            pause_s = min(_MORE_AGAIN_S, pause_s * 1.2)

    def _report(self, one: Member, error: QtctlError, *, again: bool) -> None:
        """Put an error into the stream; one that repeats while a guest is waited for only once."""
        if not again:
            one.error = error
            self._failed(one.guest, error)
        elif one.failure is not None:
            return
        text = "\n".join((error.message, *error.more))
        hint = "it is followed again once it answers" if again else error.hint
        one.failure = Failure(text, hint, error.exit_code, time.time_ns(), one.name)
        if self._into is not None:
            self._into.add(one, one.failure)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a turn: all guests at once would miss their deadlines."""
        await self._turns.acquire()
        end = asyncio.get_running_loop().call_later(_TURN_S, self._turns.release)
        try:
            yield
        finally:
            if end.when() > asyncio.get_running_loop().time():
                end.cancel()
                self._turns.release()

    async def _attached(self, one: Member) -> None:
        async with contextlib.AsyncExitStack() as held:
            async with self._turn():
                session = await held.enter_async_context(self._attaching(one.guest))
            one.session, one.failure, one.attached = session, None, True
            self.changed()
            try:
                await self._wanted.wait()
                assert self._into is not None
                if self._into.stopped.is_set():
                    return
                one.follows = True
                try:
                    await self._follow(one, session, self._into)
                finally:
                    one.left()
                    one.follows = False
                    self.changed()
                one.done = True
                self.changed()
                await self._closing.wait()
            finally:
                one.session = None

    async def _follow(self, one: Member, session: Session, into: MergedStream) -> None:
        if into.follow is None:
            one.begun = True
            self.changed()
            async for news in guest_news(session, into.stopped):
                await into.put(one, news._replace(guest=one.name))
            return
        async with contextlib.AsyncExitStack() as held:
            following = session.stream(into.follow._replace(guest=one.name))
            async with self._turn():
                stream = await held.enter_async_context(following)
            one.stream, one.begun = stream, True
            into.began(one)
            self.changed()
            async with contextlib.aclosing(aiter(stream)) as items:
                async for item in items:
                    await into.put(one, item)

    def into(self, into: MergedStream) -> None:
        """Follow all guests that are attached, and that will be, from now on."""
        self._into = into
        for one in self.members:
            if one.failure is not None:
                into.add(one, one.failure)
        self._wanted.set()

    # What verbs need of a session.

    @property
    def sessions(self) -> dict[str, Session]:
        """The sessions of the guests that are attached now, by name."""
        return {one.name: one.session for one in self.members if one.session is not None}

    @property
    def where(self) -> str:
        """The guests in words."""
        return ", ".join(self.sessions) or "no guest"

    async def all_states(self) -> States:
        """Return the state of every event of the guests: enabled if it is on one of them."""
        found: States = {}
        for session in self.sessions.values():
            for name, state in (await session.all_states()).items():
                before = found.setdefault(name, state)
                if EventState.ENABLED in (state, before):
                    found[name] = EventState.ENABLED
        return found

    def declared(self) -> Mapping[str, Declaration]:
        """Return the declarations of all guests; of two for one event that of the first."""
        found: dict[str, Declaration] = {}
        every = [session.declared() for session in self.sessions.values()]
        for declared in {id(one): one for one in reversed(every)}.values():
            found.update(declared)
        return found

    async def names(self) -> Names:
        """Return the names of the guests' threads; pointers of two guests may be equal."""
        return Names.joined([await one.names() for one in self.sessions.values()])

    def stream(self, follow: Follow) -> MergedStream:
        """Return the stream of all guests, to enter with ``async with``."""
        return MergedStream(self, follow)

    def news(self) -> MergedStream:
        """Return the stream of the guests' QMP events and marks alone."""
        return MergedStream(self, None)


Guests = Session | Several
"""The guests of a verb: one, or several with the same methods."""
