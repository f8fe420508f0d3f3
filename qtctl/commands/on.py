"""The verb on: run an action when a condition holds."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.following import Following, following, listening
from qtctl.commands.formatting import formatter_of
from qtctl.commands.options import (
    BACKEND,
    DURATION,
    GUARD,
    NDJSON,
    OUTPUT,
    OWN,
    RING,
    TIME,
    WHERE,
)
from qtctl.commands.output import put
from qtctl.commands.parsing import parse_verb
from qtctl.commands.places import Out
from qtctl.commands.registry import Command, Options, arg, command
from qtctl.commands.values import duration
from qtctl.errors import UsageError
from qtctl.events.selection import Selection
from qtctl.folders import read_text
from qtctl.model import GuestEvent
from qtctl.session.follow import Follow

if TYPE_CHECKING:
    from qtctl.records.batch import Batch
    from qtctl.session.several import Guests
    from qtctl.session.triggers import ActionRunner, DumpRing, Fired, Trigger

_DO = "do"
_TRIGGER = (
    arg("when", nargs="*", metavar="WHEN", help="events, an expression, or a QMP event"),
    WHERE.but(help="with events: only records for which this holds"),
    arg(
        "--once",
        action="store_true",
        help="act the first time only; end when all triggers have acted",
    ),
    arg(
        "--every",
        metavar="TIME",
        type=duration,
        default=1.0,
        help="act at most once in this time (default: 1s); matches in between are counted",
    ),
)
_DETAILS = """\
WHEN is one of
  names, patterns, @SETS   these events, with --where if only some of their records are meant
  an expression            as --where takes it, which names its events: event == "NAME" and ...
                           (one that names none is about the events that are on)
  a word in capitals       a QMP event: GUEST_PANICKED, STOP, RESET, SHUTDOWN, WATCHDOG
and behind `do`, up to the end of the line,
  enable|disable PATTERN...   mark TEXT   stop   dump   run COMMAND [ARGUMENT...]

The events are on while it runs; they, and what `enable` and `disable` switched, are given back.
`stop` pauses the guest, and leaves it so. Records are read some ms after QEMU wrote them: the guest
has gone on meanwhile. `dump` writes a ring (--ring, -o) of these events and of --also. `run` starts
a program as it is written, through no shell: no variables, no pipes; to have them, run sh -c '...'.
It gets the record as JSON in $QTCTL_RECORD and the guest in $QTCTL_TARGET, and is not started again
while it still runs; its output is qtctl's, and at the end it has 5 s to end.

A line of a --file is what stands behind `qtctl on`; # begins a comment."""


@command(
    "on",
    arguments=(
        *_TRIGGER,
        arg("--file", metavar="FILE", type=Path, help="triggers, one a line", completes="file"),
        arg("--also", metavar="PATTERN", action="append", default=[], help="events for the ring"),
        RING,
        OUTPUT.but(help="the new file that dump writes"),
        BACKEND,
        OWN,
        DURATION,
        GUARD,
        TIME,
        NDJSON,
    ),
    examples=(
        "qtctl on virtio_blk_req_complete --where 'status != 0' --once do stop",
        'qtctl on \'event == "nvme_err_cfs"\' do mark "controller is dead"',
        "qtctl on RESET do run logger -t qemu 'the guest was reset'",
        "qtctl on --ring 64MiB -o crash.qtr --also 'virtio_*' GUEST_PANICKED do dump",
        "qtctl on --file triggers.txt",
    ),
    details=_DETAILS,
    until=_DO,
    rest="ACTION",
    guests="together",
)
async def on(context: Context, options: Options) -> int:
    """Follow the guest and run the actions of triggers."""
    if context.json:
        raise UsageError("on prints a stream, not one document", hint="--ndjson")
    from qtctl.commands.destinations import RingFiles

    triggers = _triggers(options)
    dumps = any(trigger.action.kind == "dump" for trigger in triggers)
    if dumps and (options.ring is None or options.out is None):
        raise UsageError("'do dump' writes a ring to a file", hint="--ring 64MiB -o FILE")
    if not dumps and (options.ring or options.out or options.also):
        raise UsageError("--ring, -o and --also are for 'do dump', and no trigger does that")
    out = Out(options.out, needs_file="a recording") if dumps else None
    context.stops = True
    output = context.output()
    async with context.guests(elsewhere=False) as session:
        selection = await _bind(session, triggers, options.also)
        follows = dumps or selection or any(not one.when.guest_event for one in triggers)
        follow = Follow(selection, backend=options.backend, guard=options.guard, own=options.own)
        stream = session.stream(follow) if follows else None
        if stream is None:
            context.say("waiting for QMP events; Ctrl-C ends")
            opened = listening(context, session, duration=options.duration, output=output)
        else:
            opened = following(context, stream, duration=options.duration, output=output)
        async with opened as items:
            ring = RingFiles(stream, out, options.ring, at_end=False) if out and stream else None
            acting = _Actions(session, ring)
            writer = formatter_of(context, options, stream)

            async def show(fired: Fired) -> None:
                await put(output, lambda _: writer.fired(fired), context.stop)

            stop = context.stop.set if stream is None else stream.stop
            await _run(context, triggers, items, acting, show, stop)
    return 0


def _triggers(options: Options) -> list[Trigger]:
    """Parse the triggers of the command line, and of the file, whose errors name the line."""
    found = []
    if options.when or options.behind or not options.file:
        found.append(_trigger(options))
    if options.file:
        lines = read_text(options.file).split("\n")
        row = Command("on", "", on, _TRIGGER, until=_DO)
        for number, line in enumerate(lines, 1):
            try:
                if words := shlex.split(line, comments=True):
                    found.append(_trigger(parse_verb(row, words, Options())))
            except (UsageError, ValueError) as error:
                hint = error.hint if isinstance(error, UsageError) else ""
                message = error.message if isinstance(error, UsageError) else str(error)
                raise UsageError(f"{options.file}, line {number}: {message}", hint=hint) from error
        if not found:
            raise UsageError(f"{options.file} has no trigger")
    return found


def _trigger(options: Options) -> Trigger:
    from qtctl.session.conditions import When
    from qtctl.session.triggers import Action, Trigger

    when = When.parse(options.when, options.where)
    return Trigger(when, Action.parse(options.behind), options.once, options.every)


async def _bind(session: Guests, triggers: list[Trigger], also: list[str]) -> Selection:
    """Compile the conditions for the guest's events; return the events that must be on."""
    from qtctl.leases.leasing import nothing_matched
    from qtctl.session.conditions import Condition

    names = list(await session.all_states())
    declared = session.declared()
    selection = Selection.of(*also)
    for trigger in triggers:
        when = trigger.when
        if when.selection and not when.selection.pick(names):
            raise nothing_matched(when.selection, names, session.where)
        trigger.condition = Condition(when, names, declared)
        selection = Selection((*selection.rules, *when.selection.rules))
    vague = [t.when.text for t in triggers if not t.when.selection and not t.when.guest_event]
    if vague and selection:
        raise UsageError(
            f"{vague[0]!r} does not name its events, and others here do",
            hint='event == "NAME" and ...',
        )
    return selection


class _Actions:
    """Acts on the guest for which a condition held; :meth:`close` restores what was switched."""

    def __init__(self, guests: Guests, ring: DumpRing | None) -> None:
        self._guests = guests
        self.ring = ring
        self._runners: dict[str | None, ActionRunner] = {}

    async def act(self, trigger: Trigger, count: int, found: Batch | GuestEvent) -> Fired:
        """Run the action; a failure is in the outcome."""
        from qtctl.session.session import Session
        from qtctl.session.triggers import ActionRunner, Fired

        of = found if isinstance(found, GuestEvent) else found.origins[found.origin[0]]
        name = of.guest
        if name not in self._runners:
            guests = self._guests
            session = guests if isinstance(guests, Session) else guests.sessions.get(name or "")
            if session is None:
                return Fired(trigger, count, found, f"failed: {name} is gone", time.time_ns())
            self._runners[name] = ActionRunner(session, self.ring)
        return await self._runners[name].act(trigger, count, found)

    async def close(self) -> None:
        """End what runs, and restore what was switched, on each guest."""
        await asyncio.gather(*(runner.close() for runner in self._runners.values()))


async def _run(
    context: Context,
    triggers: list[Trigger],
    items: Following,
    acting: _Actions,
    show: Callable[[Fired], Awaitable[None]],
    stop: Callable[[], None],
) -> None:
    """Run triggers until ``items`` end; call ``stop`` when all triggers are done."""
    from qtctl.session.triggers import look

    ring = acting.ring
    try:
        async for item in items:
            if ring is not None:
                await asyncio.to_thread(ring.add, item)
            for trigger, count, found in await asyncio.to_thread(look, triggers, item):
                await show(await acting.act(trigger, count, found))
            if all(trigger.done for trigger in triggers):
                stop()
    finally:
        await acting.close()
        if ring is not None:
            lost = items.lost is not None
            context.say(*await asyncio.to_thread(ring.end, lost=lost))
        for one in triggers:
            if one.waiting:
                context.say(f"{one.when.text}: matched {one.waiting} more times (--every)")
