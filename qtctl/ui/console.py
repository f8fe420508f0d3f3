"""A console: the verbs of one attached session, one line after another, the long ones as jobs.

Knows no terminal. What is on is shown without a further verb: while events are on that no ``tail``
of this console shows, a ``tail`` of its own without patterns runs, the watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import shlex
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.formatting import formatter_for
from qtctl.commands.output import Output, free_name
from qtctl.commands.parsing import parse
from qtctl.commands.registry import Command, CommandTable, Options
from qtctl.commands.result import Result
from qtctl.errors import LinkLost, QtctlError, UsageError, unexpected
from qtctl.events.patterns import Selection
from qtctl.events.states import States
from qtctl.leases.leasing import new_owner
from qtctl.model import Control, EventState
from qtctl.monitor.news import EventQueue
from qtctl.session.session import Session
from qtctl.text.style import counted, escaped
from qtctl.text.tables import cut
from qtctl.ui.bar import BarState
from qtctl.version import VERSION

if TYPE_CHECKING:
    from qtctl.ui.screen import Screen

FOREGROUND_S = 0.5
"""A verb that takes longer goes on in the background, and the next line is run."""
_TICK_S = 1.0
_FRESH_S = 0.2
_WATCH_S = 5.0
_END_S = 5.0
_NAME_CHARS = 30
_UNWATCHED = "what is on stays on, and is not shown; `tail` shows it again"


@dataclass(slots=True)
class ConsoleContext(Context):
    """One line run in a console: on its session, for its lease, on its screen if it has one."""

    console: Console = field(kw_only=True)

    def write(self, lines: Iterable[str]) -> None:
        """Write lines of data."""
        if self.console.screen is None:
            Context.write(self, lines)
        else:
            self.console.screen.write(lines)

    def talk(self, lines: Iterable[str]) -> None:
        """Write lines of talk."""
        if self.console.screen is None:
            Context.talk(self, lines)
        else:
            self.console.screen.write(lines)

    async def confirm(self, question: str) -> bool:
        """Ask for a yes where somebody can be asked."""
        return await self.console.ask(question)

    def output(self, path: Path | None, failed: Callable[[], None]) -> Output:
        """Return the screen, or a new file at ``path``."""
        if path is not None or self.console.screen is None:
            return Context.output(self, path, failed)
        return self.console.screen

    @contextlib.asynccontextmanager
    async def attached(self, *, lend: bool = False) -> AsyncIterator[Session]:
        """Give the console's session; for a ``-t`` of its own, another."""
        if self.target is not None or self.events_all is not None:
            async with Context.attached(self, lend=lend) as session:
                yield session
            return
        session = self.console.session
        if session.monitor.lost:
            raise LinkLost(f"the guest on {session.where} is gone", hint="Ctrl-D leaves")
        try:
            yield session
        finally:
            self.tell_notices(session)

    def tell_notices(self, session: Session) -> None:
        """Tell what happened to leases meanwhile."""
        while session.notices:
            self.say(session.notices.pop(0))


@dataclass(slots=True, eq=False)
class Job:
    """A verb that runs, by the line that asked for it."""

    number: int
    line: str
    row: Command
    context: ConsoleContext
    task: asyncio.Task[int]

    def stop(self) -> None:
        """Ask it to end as Ctrl-C does on the command line; the second time, cancel it."""
        if self.context.stops and not self.context.stop.is_set():
            self.context.stop.set()
        else:
            self.task.cancel()


class Console:
    """Runs lines on ``session``; make it in its event loop, and end it with :meth:`leave`.

    ``changed`` is called when :meth:`facts` may tell something new, ``ask`` for a yes.
    """

    def __init__(
        self,
        base: Context,
        session: Session,
        table: CommandTable,
        *,
        screen: Screen | None = None,
        changed: Callable[[], None] = lambda: None,
        ask: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self.session = session
        self.table = table
        self.screen = screen
        self.states: States = {}
        self.jobs: list[Job] = []
        self.left = asyncio.Event()
        self._changed = changed
        self._ask = ask
        self._leased: dict[str, bool] = {}
        self._owner = new_owner()
        self._context = ConsoleContext(
            quiet=base.quiet,
            verbose=base.verbose,
            out_style=base.out_style,
            err_style=base.err_style,
            owner=self._owner,
            name="",
            console=self,
        )
        self._numbers = itertools.count(1)
        self._lines: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._state = ""
        self._stale = asyncio.Event()
        self._watch: Job | None = None
        self._watches = screen is not None
        self._resumes = False
        self._followed = asyncio.Event()
        self._rate: float | None = None
        session.on_streams = self._streams_changed
        self._background = [
            asyncio.ensure_future(work)
            for work in (
                *(self._obey(), self._hear(), self._keep_link()),
                *(self._keep_fresh(), self._keep_rate()),
            )
        ]

    async def leave(self) -> None:
        """End all jobs, and give back what this console switched."""
        for task in self._background:
            task.cancel()
        for cancel in (False, True):
            for job in list(self.jobs):
                job.task.cancel() if cancel else job.stop()
            if tasks := [job.task for job in self.jobs]:
                await asyncio.wait(tasks, timeout=_END_S)
        given = await self.session.end(self._owner)
        if given.events:
            self._context.say(f"gave back {counted(len(given.events), 'event')}")
        if given.left:
            left = counted(len(given.left), "event")
            self._context.say(f"left {left} as they are: switched by somebody else, or in use")
        self._context.tell_notices(self.session)

    async def ask(self, question: str) -> bool:
        """Ask for a yes; where nobody can be asked it is a no."""
        return self._ask is not None and await self._ask(question)

    # Lines and jobs

    def submit(self, line: str, *, again: bool = False) -> None:
        """Run a line once those before it have ended or gone to the background.

        ``again``: it was run before, and its ``-o FILE`` may be there; it goes on in ``FILE.1``.
        """
        self._lines.put_nowait((line, again))

    async def _obey(self) -> None:
        while True:
            line, again = await self._lines.get()
            job = self._begin(line, again=again)
            if isinstance(job, Job):
                await asyncio.wait({job.task}, timeout=FOREGROUND_S)
                job.context.name = cut(job.line.strip(), _NAME_CHARS)

    async def run(self, line: str) -> int:
        """Run a line to its end; return its exit code."""
        job = self._begin(line)
        return await job.task if isinstance(job, Job) else job

    def _begin(self, line: str, *, again: bool = False) -> Job | int:
        """Start the verb of a line; an exit code where there is nothing to start."""
        try:
            words = split(line)
            parsed = self._parse(words) if words else None
            if again and parsed is not None:
                self._number_file(parsed[1])
        except QtctlError as error:
            return self._context.fail(error)
        if parsed is None:
            return 0
        row, options = parsed
        return self._start(line, row, options, self._context_for(options))

    def _parse(self, words: Sequence[str]) -> tuple[Command, Options] | None:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                return parse(words, self.table, VERSION)
        except SystemExit:  # --help or --version was printed
            self._context.write(printed.getvalue().rstrip("\n").split("\n"))
            return None

    def _number_file(self, options: Options) -> None:
        out: Path | None = getattr(options, "out", None)
        if out is not None and (free := free_name(out)) != out:
            options.out = free
            self._context.say(f"{out} stays as it is: what comes now goes to {free}")

    def _context_for(self, options: Options) -> ConsoleContext:
        return replace(
            self._context,
            target=options.target,
            events_all=options.events_all,
            json=options.json,
            quiet=options.quiet or self._context.quiet,
            verbose=options.verbose or self._context.verbose,
            stop=asyncio.Event(),
        )

    def _start(self, line: str, row: Command, options: Options, context: ConsoleContext) -> Job:
        task = asyncio.ensure_future(self._run(row, options, context))
        job = Job(next(self._numbers), line, row, context, task)
        self.jobs.append(job)
        task.add_done_callback(lambda _: self._ended(job))
        self._changed()
        return job

    async def _run(self, row: Command, options: Options, context: ConsoleContext) -> int:
        """Run a verb and show what it found or why it failed; return its exit code."""
        try:
            if row.name == "enable" and not options.dry_run:
                await self._watch_first()
            result = await row.run(context, options)
            return context.show(result) if isinstance(result, Result) else result
        except asyncio.CancelledError:
            context.say("stopped")
            return 130
        except QtctlError as error:
            return context.fail(error)
        except Exception as error:
            if context.verbose:
                context.talk(map(escaped, traceback.format_exc().splitlines()))
            return context.fail(unexpected(error))

    def _ended(self, job: Job) -> None:
        self.jobs.remove(job)
        if job is self._watch:
            self._watch = None
            failed = job.task.cancelled() or job.task.result() != 0
            if failed and not self.session.monitor.lost:
                self._watches = False  # it cannot follow: once is enough to be told
        self._stale.set()
        self._changed()

    def interrupt(self) -> None:
        """Stop the newest job, as Ctrl-C does."""
        if self.jobs:
            self.stop(self.jobs[-1])
        else:
            self._context.say("nothing runs here; Ctrl-D leaves")

    def stop(self, job: Job) -> None:
        """Stop a job; the watch then stays away until it is asked for."""
        if job is self._watch:
            self._watches = False
            job.task.add_done_callback(lambda _: self._context.say(_UNWATCHED))
        job.stop()

    # The guest, and what is told of it

    async def _hear(self) -> None:
        """Show what the guest's monitor and other consoles tell, once for all jobs."""
        ear, writer = EventQueue(), formatter_for(self._context.out_style, "none", {}, ())
        async with self.session.monitor.listening(ear):
            while True:
                await ear.wait()
                for news in ear.take():
                    own = isinstance(news, Control) and news.pid == os.getpid()
                    if self.screen is not None and not own:
                        self.screen.write(writer.lines(news, 0))
                self._stale.set()

    async def _keep_link(self) -> None:
        """When the guest is gone wait for it to come back, and go on as before with that."""
        session = self.session
        while True:
            cause = await session.monitor.wait_lost()
            leased, again = self._leased, [job for job in self.jobs if self._goes_on(job)]
            self._context.complain(f"the guest on {session.where} is gone: {cause}")
            self._context.say("waiting for it to come back; Ctrl-D leaves")
            self.states = {}
            self._changed()
            if self.jobs:
                await asyncio.wait([job.task for job in self.jobs], timeout=_END_S)
            await session.comes_back()
            self._context.say("the guest is back")
            self._context.tell_notices(session)
            self._resumes = True
            if self._watches and any(leased.values()):
                await self._watch_first()
            for on in (True, False):
                if names := [name for name, wanted in leased.items() if wanted == on]:
                    await self._switch_again(names, on)
            self._resumes = False
            for job in again:
                self._context.say(f"again: {job.line}")
                self.submit(job.line, again=True)
            self._stale.set()

    def _goes_on(self, job: Job) -> bool:
        """Tell whether a job is one to take up again, unlike the watch, which comes by itself."""
        stays = job.context.stops or bool(job.context.name)
        return stays and job is not self._watch and not job.context.stop.is_set()

    async def _switch_again(self, names: list[str], on: bool) -> None:
        try:
            report = await self.session.leasing.switch(self._owner, Selection.of(*names), on)
        except QtctlError as error:
            self._context.fail(error)
        else:
            changed = counted(len(report.changed), "event")
            self._context.say(f"again: {changed} switched {'on' if on else 'off'}")

    # What is on, and who shows it

    async def _keep_fresh(self) -> None:
        """Read the guest's state anew after whatever may have changed it."""
        while True:
            self._stale.clear()
            with contextlib.suppress(QtctlError):
                status = await self.session.monitor.execute("query-status")
                self.states = await self.session.all_states()
                self._leased = await self._read_lease()
                self._state = str(status.get("status", ""))
                if not self._stale.is_set():
                    self._watch_or_not()
            self._changed()
            await asyncio.sleep(_FRESH_S)
            await self._stale.wait()

    async def _read_lease(self) -> dict[str, bool]:
        """Return what this console has switched, as it wants it."""
        leases = await self.session.leasing.leases()
        own = (lease for lease in leases if lease.owner == self._owner)
        return {name: change.wanted for lease in own for name, change in lease.events.items()}

    def _on(self) -> list[str]:
        return [name for name, state in self.states.items() if state == EventState.ENABLED]

    def _shown_by_tails(self) -> set[str]:
        streams = (stream for stream in self.session.streams if stream.selection)
        return {name for stream in streams for name in stream.picked}

    def _follows_all(self) -> bool:
        return any(not stream.selection for stream in self.session.streams)

    def _watch_or_not(self) -> None:
        """Begin or end the watch, as there is something for it to show or not."""
        shown = self._shown_by_tails()
        wanted = any(name not in shown for name in self._on())
        switching = self._resumes or any(job.row.name == "enable" for job in self.jobs)
        if self._watch is not None and not wanted and not switching:
            self._watch.context.stop.set()
        elif wanted and self._watches and self._watch is None and not self._follows_all():
            self._begin_watch()

    def _begin_watch(self) -> Job:
        row, options = parse(["tail"], self.table, VERSION)
        context = replace(self._context_for(options), quiet=True, name="watch")
        self._watch = self._start("tail", row, options, context)
        return self._watch

    async def _watch_first(self) -> None:
        """Watch before events are switched on: some happen at once and never again."""
        self._watches = self.screen is not None
        if not self._watches:
            return
        if self._watch is not None and self._watch.context.stop.is_set():
            await asyncio.wait({self._watch.task})
        if self._watch is None and not self._follows_all():
            self._begin_watch()
        deadline = time.monotonic() + _WATCH_S
        while self._watch is not None and not self._follows_all() and time.monotonic() < deadline:
            await asyncio.wait({self._watch.task}, timeout=0.01)

    def _streams_changed(self) -> None:
        shown = self._shown_by_tails()
        for stream in self.session.streams:
            if not stream.selection:
                stream.leave_out(shown)
        (self._followed.set if self.session.streams else self._followed.clear)()
        self._stale.set()
        self._changed()

    # What the bar tells

    def facts(self) -> BarState:
        """Return what is known at this moment."""
        guest, streams = self.session.guest, self.session.streams
        name = (guest.name or f"pid {guest.pid}") if guest else self.session.where
        return BarState(
            guest=name,
            state="gone" if self.session.monitor.lost else self._state,
            on=len(self._on()) if self.states else None,
            rate=self._rate if streams else None,
            lost=sum(stream.counts.lost for stream in streams),
            unknown_losses=sum(stream.counts.unknown_losses for stream in streams),
            jobs=sum(job is not self._watch for job in self.jobs),
        )

    async def _keep_rate(self) -> None:
        """Count the records of the last second while there is a stream to read them."""
        before, then = 0, time.monotonic()
        while True:
            await self._followed.wait()
            await asyncio.sleep(_TICK_S)
            # All streams of one guest read the same records.
            read = max((stream.counts.read for stream in self.session.streams), default=0)
            now = time.monotonic()
            self._rate = max(0, read - before) / (now - then)
            before, then = read, now
            self._changed()


def split(line: str) -> list[str]:
    """Split a line into words as a shell does; a ``qtctl`` in front and comments are left out.

    Raises:
        UsageError: a quote is never closed.
    """
    if line.lstrip().startswith("#"):
        return []
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"this line cannot be read: {str(error).lower()}") from error
    return words[1:] if words[:1] == ["qtctl"] else words
