"""The context of a running verb: global options, outputs, and the request to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from qtctl.errors import LinkLost, QtctlError, SeveralGuests
from qtctl.leases.journal import Owner
from qtctl.session.attach import attach, waited_for
from qtctl.session.session import Session
from qtctl.text.status_line import REDRAW_S, StatusLine
from qtctl.text.style import Style, escaped, printable, shortened

if TYPE_CHECKING:
    from qtctl.commands.output import Output
    from qtctl.commands.places import Out
    from qtctl.session.several import Guests
    from qtctl.session.targets import Chosen


_FIFO_POLL_S = 0.05


class Result(NamedTuple):
    """The result of a one-shot verb: a JSON document, the same as lines, and an exit code."""

    document: Any
    lines: Callable[[Style], Iterable[str]]
    exit_code: int = 0


def error_object(error: QtctlError) -> dict[str, Any]:
    """Return the object of an error, for ``--json`` and ``--ndjson``."""
    return {
        "type": "error",
        "message": "\n".join((error.message, *error.more)),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


class Stop(asyncio.Event):
    """The request to stop; ``heeded``: the running verb ends by itself once it is set."""

    heeded = False


@dataclass(slots=True, eq=False)
class GuestFailure:
    """The error of one of several guests, and whether it was printed."""

    guest: Chosen
    error: QtctlError
    printed: bool = False


@dataclass(slots=True)
class Context:
    """One call of qtctl; ``name`` stands before its messages.

    ``stop`` is set by the first SIGINT, SIGTERM or SIGHUP while ``stops`` is true; else the running
    verb is cancelled. ``interrupt``, if set, is called for SIGINT instead (in a console). ``owner``
    is the lease for what ``enable`` and ``disable`` switch: None on the command line, where it
    stays until ``restore``; a console's own, which is restored when the console is left.
    """

    target: str | None = None
    events_all: Path | None = None
    json: bool = False
    ndjson: bool = False
    quiet: bool = False
    verbose: bool = False
    out_style: Style = field(default_factory=Style)
    err_style: Style = field(default_factory=Style)
    stop: Stop = field(default_factory=Stop)
    interrupt: Callable[[], None] | None = None
    owner: Owner | None = None
    name: str = "qtctl"
    shown: bool = False
    """Whether the result of a one-shot verb, or the summary that ends a stream, was printed."""
    before_talk: Callable[[], None] = lambda: None
    choose: Callable[[Context], Awaitable[str | None]] | None = None
    """Lets the user choose one of the running guests; returns its TARGET, None off a terminal."""
    several: Sequence[Chosen] = ()
    """The guests that a verb follows together; none: the one of ``target``."""
    waits: bool = False
    """Whether those are waited for that are not there yet, or not there any more."""
    failures: list[GuestFailure] = field(default_factory=list)
    """Which of ``several`` failed, and why."""
    alone: bool = True
    """Whether no other context uses the terminal: else it asks nothing, and draws no progress."""

    @property
    def stops(self) -> bool:
        """Whether the running verb ends by itself when ``stop`` is set."""
        return self.stop.heeded

    @stops.setter
    def stops(self, heeded: bool) -> None:
        self.stop.heeded = heeded

    def for_guest(self, target: str, name: str) -> Self:
        """Return the context of one of several guests, which stops together with this one."""
        before = f"{self.name}: {name}" if self.name else name
        return replace(self, target=target, name=before, alone=False, choose=None, several=())

    def say(self, *texts: str) -> None:
        """Print messages on stderr, unless ``-q``."""
        for text in () if self.quiet else texts:
            self.complain(text)

    def complain(self, text: str) -> None:
        """Print a message on stderr, also with ``-q``."""
        self._talk("note", (text,))

    def fail(self, error: QtctlError) -> int:
        """Print an error and its hint on stderr; return its exit code.

        With ``--ndjson`` and ``--json`` it is an object on stdout as well, unless the last object,
        the summary or the one document, was printed before.
        """
        if (self.ndjson or self.json) and not self.shown:
            with contextlib.suppress(OSError, ValueError):
                self.write([json.dumps(error_object(error))])
        return self.report(error)

    def report(self, error: QtctlError) -> int:
        """Print an error and its hint on stderr; return its exit code."""
        hint = [f"  try: {error.hint}"] if error.hint else []
        self._talk("bad", [*map(shortened, (error.message, *error.more)), *hint])
        return error.exit_code

    def _talk(self, role: str, lines: Sequence[str]) -> None:
        first, *more = map(escaped, lines)
        name = f"{self.name}: " if self.name else ""
        self.talk([self.err_style.paint(name, role) + first, *more])

    def talk(self, lines: Iterable[str]) -> None:
        """Clear the progress line and write lines to stderr."""
        self.before_talk()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
            sys.stderr.flush()

    def status_line(self) -> StatusLine:
        """Return the line that shows progress: on a terminal's stderr, unless ``-q``.

        In a console it draws nothing. What is said clears it.
        """
        shows = not self.quiet and self.owner is None and self.alone
        line = StatusLine(self.err_style if shows else Style())
        self.before_talk = line.clear
        return line

    @contextlib.contextmanager
    def waiting(self, what: Callable[[], str]) -> Iterator[None]:
        """Show in the status line what the block waits for, if it takes over half a second.

        ``what`` is called when that is so. The block writes nothing to the terminal but messages.
        Where the line draws nothing, as in a console, it is a message.
        """
        from qtctl.text.tables import cut

        before, line = self.before_talk, self.status_line()
        loop = asyncio.get_running_loop()
        began, text = loop.time(), ""
        timer: asyncio.TimerHandle | None = None

        def draw() -> None:
            nonlocal timer, text
            try:
                text = text or what()
            except QtctlError:  # which the block raises itself
                return
            if not line.style.terminal:
                self.say(text)
                return
            waited = f"{loop.time() - began:.0f} s  {escaped(text)}"
            line.draw(cut(waited, line.style.width))
            timer = loop.call_later(REDRAW_S, draw)

        if self.err_style.terminal and self.alone:
            timer = loop.call_later(REDRAW_S, draw)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            line.clear()
            self.before_talk = before

    async def confirm(self, question: str) -> bool:
        """Ask for a yes on the terminal; return False for anything else, and without a terminal."""
        if not (self.alone and sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        sys.stderr.write(f"{self.err_style.paint('qtctl: ', 'note')}{escaped(question)} [y/N] ")
        sys.stderr.flush()
        # A thread that waits for a line would block the process's end on Ctrl-C.
        loop.add_reader(sys.stdin.fileno(), answered.set)
        try:
            with self._cancelled_by_signals():
                await answered.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def write(self, lines: Iterable[str]) -> None:
        """Write lines of data to stdout."""
        sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
        sys.stdout.flush()

    def show(self, result: Result) -> int:
        """Print the result of a one-shot verb, as text or JSON; return its exit code."""
        self.write(self.lines_of(result))
        return result.exit_code

    def lines_of(self, result: Result) -> Iterable[str]:
        """Return the lines of a result that is to be printed now, as text or JSON."""
        self.shown = True
        if not self.json:
            return result.lines(self.out_style)
        indent = 2 if self.out_style.terminal else None
        return json.dumps(result.document, indent=indent).split("\n")

    async def answer(self, lines: Sequence[str]) -> None:
        """Print all lines of an answer; a console may do so in a pager."""
        self.write(lines)

    def style_at(self, out: Out | None) -> Style:
        """Return the style of lines for ``out``: plain unless it is stdout."""
        return self.out_style if out is None or out.is_stdout else Style()

    async def await_reader(self, out: Out) -> None:
        """Wait until a FIFO has a reader; call it before anything is asked of a guest.

        Raises:
            UsageError: the FIFO cannot be opened.
        """
        if out.has_reader():
            return
        self.say(f"{out} is a FIFO without a reader: waiting for one; Ctrl-C ends")
        with self._cancelled_by_signals():
            while not out.has_reader():  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(_FIFO_POLL_S)

    @contextlib.contextmanager
    def _cancelled_by_signals(self) -> Iterator[None]:
        stops, self.stops = self.stops, False
        try:
            yield
        finally:
            self.stops = stops

    def output(self, out: Out | None = None) -> Output:
        """Return the output for a stream's records: ``out``, else stdout; a failure stops the verb.

        A file is created with the first lines that are put.
        """
        from qtctl.commands.output import Sink

        if out is None or out.is_stdout:
            return Sink(sys.stdout.fileno(), self.stop.set)
        return Sink(out.open, self.stop.set)

    async def finish(self, output: Output, seconds: float = 5.0) -> None:
        """Wait until all lines are written: at most ``seconds``, or a moment once stopped."""
        from qtctl.commands.output import FLUSH_S

        if not await output.finish(FLUSH_S if self.stop.is_set() else seconds):
            self.complain("the reader of the records has stalled: not all of them were written")

    @contextlib.contextmanager
    def whole_or_removed(self, out: Out) -> Iterator[None]:
        """Remove the file or folder created at ``out`` if the block fails or is stopped."""
        try:
            yield
        except BaseException:
            out.remove()
            raise
        if self.stop.is_set() and out.remove():
            self.complain(f"stopped: {out} was not completed, and is removed")

    async def wait_stopped(self, session: Session, seconds: float | None = None) -> None:
        """Wait until stopped, at most for ``seconds``.

        Raises:
            LinkLost: the monitor went away.
        """
        stop = asyncio.ensure_future(self.stop.wait())
        lost = asyncio.ensure_future(session.monitor.wait_lost())
        await asyncio.wait({stop, lost}, timeout=seconds, return_when="FIRST_COMPLETED")
        stop.cancel()
        if lost.done():
            raise LinkLost(f"lost {session.where}: {lost.result()}")
        lost.cancel()

    @contextlib.asynccontextmanager
    async def guests(self, *, elsewhere: bool = True) -> AsyncIterator[Guests]:
        """Attach to the guest, or to ``several``, to follow them; see :meth:`attached`.

        ``elsewhere``: they may be guests of other hosts.
        """
        if not self.several:
            async with self.attached(lend=True, elsewhere=elsewhere) as session:
                yield session
            return
        from qtctl.session.several import Several

        def attaching(guest: Chosen) -> contextlib.AbstractAsyncContextManager[Session]:
            return self.for_guest(guest.target, guest.name).attached(lend=True, elsewhere=elsewhere)

        def failed(guest: Chosen, error: QtctlError) -> None:
            self.failures.append(GuestFailure(guest, error))

        if self.waits:
            self.say(f"waiting for {', '.join(one.name for one in self.several)}")
        several = Several(self.several, attaching, failed, self.stop, waits=self.waits)
        async with several as guests:
            yield guests

    @contextlib.asynccontextmanager
    async def attached(
        self, *, lend: bool = False, elsewhere: bool = False
    ) -> AsyncIterator[Session]:
        """Attach to the target, and report what is restored.

        ``lend`` is for verbs that run for a while: other consoles reach the guest through them.
        ``elsewhere`` is for those that only follow: the guest may be one of another host.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                session = await self._attach(stack, lend, elsewhere)
            except SeveralGuests:
                with self._cancelled_by_signals():
                    self.target = await self.choose(self) if self.choose is not None else None
                if self.target is None:
                    raise
                session = await self._attach(stack, lend, elsewhere)
            if self.verbose:
                version = ".".join(map(str, session.monitor.version))
                self.say(f"attached to {session.where}, QEMU {version}")
            # A verb that stays has lines of its own; others ask the guest, and print at the end.
            asking = self.waiting(lambda: f"asking the guest on {session.where}")
            try:
                with contextlib.nullcontext() if lend else asking:
                    yield session
            finally:
                self.say(*session.notices)

    async def _attach(
        self, stack: contextlib.AsyncExitStack, lend: bool, elsewhere: bool
    ) -> Session:
        told = self.say if self.verbose else lambda text: None
        attaching = attach(
            self.target,
            events_all=self.events_all,
            lend=lend,
            say=self.say,
            told=told,
            elsewhere=elsewhere,
        )
        with self.waiting(lambda: f"waiting for {waited_for(self.target)}"):
            return await stack.enter_async_context(attaching)
