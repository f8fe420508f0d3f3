"""Following a program from its first event: it is started once everything is ready to read."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtctl.backends.base import Feed, FeedRequest
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.feed import LogFeed
from qtctl.backends.log.target import LogReach, LogTarget
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.backends.simple.feed import SimpleFeed
from qtctl.backends.spool.growing import HEAD_BYTES, GrowingFile, GrowingRecords
from qtctl.backends.spool.spool import Spool, make_spool, remove_spool, start_keeper
from qtctl.backends.table import Undoing
from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.states import States, SwitchReport
from qtctl.leases.journal import Journal, Owner
from qtctl.leases.leasing import GivenBack, Leasing
from qtctl.model import Address, Backend, Clock, EventState, Guest
from qtctl.monitor.address import UNIX_PATH_MAX
from qtctl.monitor.client import Monitor
from qtctl.monitor.processes import start_ticks
from qtctl.records.event_table import EventTable
from qtctl.session.facts import Backends, Facts
from qtctl.session.follow import Follow
from qtctl.session.journals import leases_folder
from qtctl.session.programs import Program
from qtctl.session.stream import Stream


class _ProgramLink(Monitor):
    """Stands for the monitor of a program that qtctl asks nothing: it lasts as long as that."""

    def __init__(self, program: Program, qmp: Path) -> None:
        super().__init__(Address(str(qmp)), None, lend=False, log=lambda line: None)
        self._numbers = program.version
        self.process: asyncio.subprocess.Process | None = None

    @property
    def version(self) -> tuple[int, int, int]:
        """The program's version."""
        return self._numbers

    async def execute(self, command: str, *_: object, **__: object) -> Any:
        """Raise LinkLost: nothing is asked."""
        raise LinkLost(f"{command} was not sent to {self.address}")

    async def wait_lost(self) -> str:
        """Wait until the program has ended, which is no error."""
        assert self.process is not None
        await self.process.wait()
        return ""


class Launched:
    """A program of QEMU's that is to be started, in the place of a session on a guest.

    ``stdout`` is the descriptor that becomes its standard output.
    """

    def __init__(
        self, program: Program, words: Sequence[str], events_all: Path | None, stdout: int
    ) -> None:
        self.program = program
        self.notices: list[str] = []
        self.guest: Guest | None = Guest(0, 0, str(program.path), tuple(words), uid=os.getuid())
        self.facts = Facts(self.guest, events_all)
        self._arguments = words[1:]
        self._stdout = stdout
        self._spool = self._made()
        self.qmp = self._spool.path.with_name("qmp")
        self.monitor = _ProgramLink(program, self.qmp)
        self.leasing = Leasing(self.monitor, None, Journal(leases_folder() / "launched"), Undoing())

    def _made(self) -> Spool:
        """Return a new spool in a folder that has room for a socket's path, too."""
        assert self.guest is not None
        refused: dict[Path, str] = {}
        while (
            len(os.fsencode((spool := make_spool(self.guest, refused=refused)).path))
            > UNIX_PATH_MAX
        ):
            remove_spool(spool.path)
            refused[spool.path.parent.parent] = "its path is too long for a socket"
        return spool

    @property
    def where(self) -> str:
        """The program, which messages name."""
        pid = f" (pid {self.guest.pid})" if self.guest and self.guest.pid else ""
        return f"{self.program.path.name}{pid}"

    @property
    def exit_code(self) -> int:
        """The exit code of the program that has ended: 128 + n after a signal."""
        process = self.monitor.process
        assert process is not None
        assert process.returncode is not None
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    async def all_states(self) -> States:
        """Return the events of the program, all off: it does not run yet."""
        return dict.fromkeys(self.program.names, EventState.DISABLED)

    async def backends(self) -> Backends:
        """Return the backend that it is traced by."""
        return Backends((self.program.backend,), ())

    async def log_target(self) -> LogTarget:
        """Return that it is not known where the log goes, should somebody move it."""
        return LogTarget(LogReach.UNKNOWN)

    def guest_ended(self) -> bool:
        """Return whether the program has ended."""
        process = self.monitor.process
        return process is not None and process.returncode is not None

    async def ends_soon(self) -> bool:
        """Return whether it has ended."""
        return self.guest_ended()

    def following(self, stream: Stream, now: bool) -> None:
        """Do nothing: it is followed by one stream."""

    def open_feed(self, table: EventTable) -> Feed:
        """Begin to read what the program will write."""
        path, source = self._spool.path, f"the start of {self.program.path.name}"
        if self.program.backend is Backend.SIMPLE:
            records = GrowingRecords(path, offset=0, spool=True)
            decoder = SimpleDecoder(table, clock=Clock.REALTIME)
            return SimpleFeed(self, records, decoder, source, spool=True)
        lines = GrowingFile(path, offset=0, spool=True)
        return LogFeed(self, lines, LogDecoder(table), source)

    async def start(self, picked: Sequence[str]) -> None:
        """Start the program with these events on.

        Raises:
            UsageError: it cannot be started.
        """
        path = self._spool.path
        events = path.with_name("events")
        events.write_text("".join(f"{name}\n" for name in picked))
        argv = self.program.argv(self._arguments, events, path, self.qmp)
        try:
            process = await asyncio.create_subprocess_exec(*argv, stdout=self._stdout)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot start {self.program.path}: {why}") from error
        self.monitor.process = process
        assert self.guest is not None
        pid, started = process.pid, start_ticks(process.pid) or 0
        self.guest = self.guest._replace(pid=pid, started=started)
        head = HEAD_BYTES if self.program.backend is Backend.SIMPLE else 0
        try:
            await asyncio.to_thread(start_keeper, path, pid, head=head)
        except OSError as error:
            if (
                not self.guest_ended()
            ):  # then it has taken the spool away before the keeper opened it
                await self.stop()
                raise QtctlError(f"cannot bound the spool of {self.where}: {error}") from error

    async def stop(self) -> None:
        """End the program, if it runs, and wait for its end."""
        process = self.monitor.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    async def end(self, owner: Owner) -> GivenBack:
        """End the program."""
        await self.stop()
        return GivenBack()

    def remove(self) -> None:
        """Remove what was made for the program, once it has ended."""
        for name in ("events", "qmp"):
            self._spool.path.with_name(name).unlink(missing_ok=True)
        remove_spool(self._spool.path)


class LaunchedStream(Stream):
    """Follows a program from its first event to its end; entering the stream starts it."""

    on_interrupt = "ends the program"
    _checks_arrival = False  # a program may have nothing to trace for long

    def __init__(self, launched: Launched, follow: Follow) -> None:
        super().__init__(launched, follow._replace(own=True, news=False))
        self.launched = launched

    async def _open(self, wanted: list[Backend], request: FeedRequest) -> Feed:
        self.backend = wanted[0]
        return self.launched.open_feed(request.table)

    async def _switch_on(self) -> SwitchReport | None:
        await self.launched.start(self.picked)
        picked = tuple(sorted(self.picked))
        unmatched = tuple(self.selection.unmatched(self.launched.program.names))
        return SwitchReport(True, picked, picked, (), (), unmatched=unmatched)

    async def _switch_back(self) -> None:
        await self.launched.stop()
