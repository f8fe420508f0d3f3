"""A console: runs typed lines on one attached session, long verbs as background jobs.

It needs no terminal. Events that are on are printed without a further verb, by the watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shlex
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qtctl.commands.context import Context, Result, Stop
from qtctl.commands.each import run_verb
from qtctl.commands.formatting import TextFormatter
from qtctl.commands.output import Output
from qtctl.commands.parsing import parse
from qtctl.commands.places import Out, free_name
from qtctl.commands.registry import Command, CommandTable, Options
from qtctl.commands.slots import is_comment
from qtctl.errors import LinkLost, QtctlError, UsageError, unexpected
from qtctl.events.selection import Selection
from qtctl.leases.leasing import new_owner
from qtctl.model import Control
from qtctl.monitor.guests import described
from qtctl.monitor.news import EventQueue
from qtctl.session.session import Session, same_guest
from qtctl.text.style import counted, escaped
from qtctl.text.tables import cut
from qtctl.ui.console_watch import Watch
from qtctl.ui.guest_state import GuestState
from qtctl.ui.jobs import Job, Jobs
from qtctl.ui.screen import Screen, ScreenContext
from qtctl.verbs import OTHER_NAMES
from qtctl.version import VERSION

FOREGROUND_S = 0.5
"""A verb that takes longer goes on in the background, and the next line is run."""
_NAME_CHARS = 30


@dataclass(slots=True)
class ConsoleContext(ScreenContext):
    """The context of one line in a console: its session, its lease, its screen if it has one.

    ``attaches`` is how many blocks of :meth:`attached` use the session now.
    """

    screen: Screen | None = field(default=None, kw_only=True)
    console: Console = field(kw_only=True)
    session: Session = field(kw_only=True)
    attaches: int = field(default=0, kw_only=True)

    async def confirm(self, question: str) -> bool:
        """Ask for a yes in the console; where nobody can be asked it is a no."""
        ask = self.console.ask
        return ask is not None and await ask(question)

    async def answer(self, lines: Sequence[str]) -> None:
        """Print an answer; a long one in the pager, unless another line was run meanwhile."""
        page = self.console.page
        if page is None or self.console.newest is not self or not await page(lines):
            self.write(lines)

    def output(self, out: Out | None = None) -> Output:
        """Return the screen, or where ``out`` leads."""
        if self.screen is None or (out is not None and not out.is_stdout):
            return Context.output(self, out)
        return self.screen

    @contextlib.asynccontextmanager
    async def attached(
        self, *, lend: bool = False, elsewhere: bool = False
    ) -> AsyncIterator[Session]:
        """Yield the console's session, or another one for a line with ``-t``."""
        if self.target is not None or self.events_all is not None:
            async with Context.attached(self, lend=lend, elsewhere=elsewhere) as session:
                yield session
            return
        session = self.session
        if session is not self.console.session:
            hint = "run the line again for the guest that it is on now"
            raise LinkLost(f"this prompt left {session.where} meanwhile", hint=hint)
        if session.monitor.lost:
            hint = "use GUEST goes to another; Ctrl-D leaves"
            raise LinkLost(f"the guest on {session.where} is gone", hint=hint)
        self.attaches += 1
        try:
            yield session
        finally:
            self.attaches -= 1
            self.say_notices(session)

    def say_notices(self, session: Session) -> None:
        """Print what happened to leases meanwhile."""
        while session.notices:
            self.say(session.notices.pop(0))


class Console:
    """Runs lines on ``session``; make it in its event loop, and end it with :meth:`leave`.

    ``held`` closes the session; :meth:`use` puts another one into it. ``changed`` is called when
    :meth:`bar` may show something new, ``ask`` to ask for a yes, ``pick`` to choose a guest,
    ``page`` to show an answer in a pager, if it is a long one: it returns whether it did.
    ``jobs`` are its jobs, the watch among them; ``left`` is set when it is to be left; ``width`` is
    that of the terminal, if it changes; ``newest`` is the context of the last line.
    """

    def __init__(
        self,
        base: Context,
        session: Session,
        table: CommandTable,
        *,
        held: contextlib.AsyncExitStack,
        screen: Screen | None = None,
        changed: Callable[[], None] = lambda: None,
        ask: Callable[[str], Awaitable[bool]] | None = None,
        pick: Callable[[], Awaitable[str | None]] | None = None,
        page: Callable[[Sequence[str]], Awaitable[bool]] | None = None,
    ) -> None:
        self.table = table
        self.screen = screen
        self.ask = ask
        self.pick = pick
        self.page = page
        self.left = asyncio.Event()
        self.width = 0
        self.newest: ConsoleContext | None = None
        self._held = held
        self._changed = changed
        self._owner = new_owner()
        self._context = ConsoleContext(
            quiet=base.quiet,
            verbose=base.verbose,
            out_style=base.out_style,
            err_style=base.err_style,
            owner=self._owner,
            name="",
            screen=screen,
            console=self,
            session=session,
        )
        self.jobs = Jobs(self._ended)
        self._lines: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._moving: asyncio.Task[None] | None = None
        self._background = [
            asyncio.ensure_future(work) for work in (self._run_lines(), self._leave_at(base.stop))
        ]
        self._begin_on(session)

    def _begin_on(self, session: Session) -> None:
        self.session = session
        self.state = GuestState(session, self._owner, self._changed)
        self._watch = Watch(session, self._start_watch, allowed=self.screen is not None)
        self._resuming = False
        session.on_streams = self._streams_changed
        work = [self._print_news(), self._keep_link()]
        work += [self.state.keep_fresh(self._update_watch), self.state.keep_rate()]
        self._minding = list(map(asyncio.ensure_future, work))

    def bar(self) -> str:
        """Return the text of the bar as it is now."""
        return self.state.bar(sum(job is not self._watch.job for job in self.jobs.running))

    async def _leave_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.left.set()

    async def leave(self) -> None:
        """End all jobs, and restore what this console switched."""
        for task in self._background:
            task.cancel()
        if self._moving is not None:
            await asyncio.wait({self._moving})
        await self._give_back(list(self.jobs.running))

    async def _give_back(self, jobs: Collection[Job]) -> None:
        """End ``jobs`` and what is done for the guest, and restore what was switched on it."""
        for task in self._minding:
            task.cancel()
        await self.jobs.end(jobs)
        given = await self.session.end(self._owner)
        if given.events:
            self._context.say(f"gave back {counted(len(given.events), 'event')}")
        if given.left:
            left = counted(len(given.left), "event")
            self._context.say(f"left {left} as they are: switched by somebody else, or in use")
        self._context.say_notices(self.session)

    # Going to another guest

    async def use(self, context: ConsoleContext) -> bool:
        """Go on with the guest of ``context.target``; return False if it is this one.

        The jobs on this guest end, and what was switched on it is given back.

        Raises: what attaching does; this guest then stays.
        """
        async with contextlib.AsyncExitStack() as fresh:
            session = await fresh.enter_async_context(context.attached(lend=True))
            if same_guest(session, self.session):
                return False
            self._moving = asyncio.ensure_future(self._move(session, fresh.pop_all()))
        await asyncio.shield(self._moving)  # Ctrl-C does not leave half of it
        return True

    async def _move(self, session: Session, held: contextlib.AsyncExitStack) -> None:
        jobs = [job for job in self.jobs.running if self._is_on_guest(job)]
        for job in jobs:
            if job is not self._watch.job:
                self._context.say(f"ended on {self.session.where}: {job.line.strip()}")
        await self._give_back(jobs)
        await self._held.aclose()
        self._held.push_async_exit(held)
        self._context.session = session
        self._begin_on(session)
        self._changed()
        self._context.say(f"now on {self.place}")

    @property
    def place(self) -> str:
        """The guest and its monitor, in words."""
        guest, where = self.session.guest, self.session.where
        return where if guest is None else f"{described(guest.pid)}, {where}"

    @staticmethod
    def _is_on_guest(job: Job) -> bool:
        return isinstance(job.context, ConsoleContext) and job.context.attaches > 0

    # Lines and jobs

    def submit(self, line: str, *, again: bool = False) -> None:
        """Run a line once those before it have ended or gone to the background.

        ``again``: it was run before, and its ``-o FILE`` may exist; it goes on in ``FILE.1``.
        """
        self._lines.put_nowait((line, again))

    async def _run_lines(self) -> None:
        while True:
            line, again = await self._lines.get()
            job = self._begin(line, again=again)
            if not isinstance(job, Job):
                moved = not (job and self._moves(_first_word(line)))
            else:
                moves = self._moves(job.row.name)
                await asyncio.wait({job.task}, timeout=None if moves else FOREGROUND_S)
                if self._moving is not None:
                    await asyncio.wait({self._moving})
                job.context.name = cut(job.line.strip(), _NAME_CHARS)
                moved = not moves or not (job.task.cancelled() or job.task.result())
            if not moved:
                self._drop_lines()

    def _moves(self, verb: str) -> bool:
        return self.table.console_roles.get(verb) == "moves"

    def _drop_lines(self) -> None:
        """Drop the lines that were typed for another guest, to which the console did not go."""
        while not self._lines.empty():
            line, _ = self._lines.get_nowait()
            self._context.say(f"not run on {self.session.where}: {line.strip()}")

    async def run(self, line: str) -> int:
        """Run a line to its end; return its exit code."""
        job = self._begin(line)
        return await job.task if isinstance(job, Job) else job

    def _begin(self, line: str, *, again: bool = False) -> Job | int:
        """Start the verb of a line; return an exit code where there is nothing to start."""
        try:
            words = _split(line)
            parsed = self._parse(words) if words else None
            if again and parsed is not None:
                self._number_file(parsed[1])
        except QtctlError as error:
            return self._context.fail(error)
        if parsed is None:
            return 0
        row, options = parsed
        self.newest = self._context_for(options)
        return self._start(line, row, options, self.newest)

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
        style = self._context.out_style
        return replace(
            self._context,
            out_style=replace(style, width=self.width or style.width),
            target=next(iter(options.targets), None),
            events_all=options.events_all,
            json=options.json,
            quiet=options.quiet or self._context.quiet,
            verbose=options.verbose or self._context.verbose,
            stop=Stop(),
        )

    def _start(self, line: str, row: Command, options: Options, context: ConsoleContext) -> Job:
        job = self.jobs.start(line, row, context, self._run(row, options, context))
        self._changed()
        return job

    async def _run(self, row: Command, options: Options, context: ConsoleContext) -> int:
        """Run a verb and print its result or error; return its exit code."""
        try:
            if self._enables(row) and not options.dry_run:
                await self._watch.start_first()
            result = await run_verb(row, context, options)
            if not isinstance(result, Result):
                return result
            await context.answer([*context.lines_of(result)])
            return result.exit_code
        except asyncio.CancelledError:
            context.say("stopped")
            return 130
        except QtctlError as error:
            return context.fail(error)
        except Exception as error:
            if context.verbose:
                context.talk(map(escaped, traceback.format_exc().splitlines()))
            return context.fail(unexpected(error))

    def _enables(self, row: Command) -> bool:
        return self.table.console_roles[row.name] == "enables"

    def _ended(self, job: Job) -> None:
        if job is self._watch.job:
            self._watch.ended()
        self.state.refresh()
        self._changed()

    def interrupt(self) -> None:
        """Stop the newest job, as Ctrl-C does."""
        if self.jobs.running:
            self.stop(self.jobs.running[-1])
        else:
            self._context.say("nothing runs here; Ctrl-D leaves")

    def stop(self, job: Job) -> None:
        """Stop a job; the watch then stays away until events are switched on from here."""
        if job is self._watch.job:
            self._watch.allowed = False
            say = f"what is on stays on, and is not shown; `{job.row.name}` shows it again"
            job.task.add_done_callback(lambda _: self._context.say(say))
        job.stop()

    # The watch

    def _start_watch(self) -> Job:
        verb = next(name for name, role in self.table.console_roles.items() if role == "watch")
        # Of the user's defaults for the verb those that end, filter or divert it are not meant.
        row, options = parse([verb], self.table, VERSION, only_default="time")
        context = replace(self._context_for(options), quiet=True, name="watch")
        return self._start(verb, row, options, context)

    def _update_watch(self) -> None:
        switching = self._resuming or any(self._enables(job.row) for job in self.jobs.running)
        self._watch.update(self.state.on(), keep=switching)

    def _streams_changed(self) -> None:
        self._watch.exclude_printed()
        self.state.streams_changed()

    # The guest's news, and its return

    async def _print_news(self) -> None:
        """Print QMP events and what other consoles did, once for all jobs."""
        from qtctl.writers.rows import RowFormatter

        queue = EventQueue()
        formatter = TextFormatter(RowFormatter(self._context.out_style, "none", {}, ()))
        async with self.session.monitor.listening(queue):
            while True:
                await queue.wait()
                for news in queue.take():
                    own = isinstance(news, Control) and news.pid == os.getpid()
                    if self.screen is not None and not own:
                        self.screen.write(formatter.lines(news, 0))
                self.state.refresh()

    async def _keep_link(self) -> None:
        """When the guest is gone, wait until it is back, and resume jobs and switches."""
        session = self.session
        while True:
            cause = await session.monitor.wait_lost()
            leased = self.state.leased
            again = [job for job in self.jobs.running if self._resumes(job)]
            self._context.complain(f"the guest on {session.where} is gone: {cause}")
            self._context.say("waiting for it to come back; use GUEST goes on, Ctrl-D leaves")
            self.state.gone()
            await self.jobs.wait(self.jobs.running)
            await session.comes_back()
            self._context.say("the guest is back")
            self._context.say_notices(session)
            self._resuming = True
            if self._watch.allowed and any(leased.values()):
                await self._watch.start_first()
            for on in (True, False):
                if names := [name for name, wanted in leased.items() if wanted == on]:
                    await self._switch_again(names, on)
            self._resuming = False
            for job in again:
                self._context.say(f"again: {job.line}")
                self.submit(job.line, again=True)
            self.state.refresh()

    def _resumes(self, job: Job) -> bool:
        """Return whether a job is run again for a guest that is back; the watch comes anyway."""
        stays = job.context.stops or bool(job.context.name)
        return stays and job is not self._watch.job and not job.context.stop.is_set()

    async def _switch_again(self, names: list[str], on: bool) -> None:
        try:
            report = await self.session.leasing.switch(self._owner, Selection.of(*names), on)
        except QtctlError as error:
            self._context.fail(error)
        else:
            changed = counted(len(report.changed), "event")
            self._context.say(f"again: {changed} switched {'on' if on else 'off'}")


def _first_word(line: str) -> str:
    with contextlib.suppress(UsageError):
        return next(iter(_split(line)), "")
    return ""


def _split(line: str) -> list[str]:
    """Split a line into words as a shell does, without comments and a leading ``qtctl``."""
    if is_comment(line):
        return []
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"this line cannot be read: {str(error).lower()}") from error
    words = words[1:] if words[:1] == ["qtctl"] else words
    return [OTHER_NAMES.get(words[0], words[0]), *words[1:]] if words else []
