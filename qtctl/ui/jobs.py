"""The verbs that run in a console, each for one typed line."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any

from qtctl.commands.context import Context
from qtctl.commands.registry import Command

_END_S = 5.0


@dataclass(slots=True, eq=False)
class Job:
    """A running verb and the line that started it."""

    number: int
    line: str
    row: Command
    context: Context
    task: asyncio.Task[int]

    def stop(self) -> None:
        """Stop it as Ctrl-C does on the command line; the second time, cancel it."""
        if self.context.stops and not self.context.stop.is_set():
            self.context.stop.set()
        else:
            self.task.cancel()


class Jobs:
    """The running jobs, oldest first. ``ended`` is called with each that ends."""

    def __init__(self, ended: Callable[[Job], None]) -> None:
        self.running: list[Job] = []
        self._ended = ended
        self._numbers = itertools.count(1)

    def start(
        self, line: str, row: Command, context: Context, work: Coroutine[Any, Any, int]
    ) -> Job:
        """Start a job."""
        job = Job(next(self._numbers), line, row, context, asyncio.ensure_future(work))
        self.running.append(job)
        job.task.add_done_callback(lambda _: self._remove(job))
        return job

    def _remove(self, job: Job) -> None:
        self.running.remove(job)
        self._ended(job)

    async def wait(self, jobs: Collection[Job]) -> None:
        """Wait until those of ``jobs`` that run have ended, at most a few seconds."""
        if tasks := [job.task for job in self.running if job in jobs]:
            await asyncio.wait(tasks, timeout=_END_S)

    async def end(self, jobs: Collection[Job]) -> None:
        """Stop jobs, and cancel those that do not end in time."""
        for cancel in (False, True):
            for job in [one for one in self.running if one in jobs]:
                job.task.cancel() if cancel else job.stop()
            await self.wait(jobs)
