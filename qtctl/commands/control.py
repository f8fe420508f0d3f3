"""Verbs that list and switch events: list, info, enable, disable, restore."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from pathlib import Path

from qtctl.backends.tracers import ignore_states, may_have_tracers, states_note
from qtctl.commands.context import Context
from qtctl.commands.registry import Result, arg, command
from qtctl.commands.values import duration, selection
from qtctl.errors import LinkLost, TooBroad, UsageError
from qtctl.events.patterns import Selection
from qtctl.events.states import SwitchReport, read_states
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Argument, Declaration, EventState
from qtctl.session.session import Session
from qtctl.text.style import Style, escaped
from qtctl.text.tables import pairs, table

PATTERNS = arg(
    "patterns",
    nargs="*",
    metavar="PATTERN",
    help="event name, pattern with * as QEMU matches it, or @SET (see qtctl sets)",
    completes="event",
)
EXCEPT = arg(
    "--except",
    metavar="PATTERN",
    dest="_except",
    help="leave these out; in order with the patterns, the last match wins "
    "(behind --, -PATTERN does the same)",
    completes="event",
)
FILE = arg(
    "--file",
    metavar="EVENTS",
    type=Path,
    help="read patterns from a QEMU events file (one a line, -PATTERN leaves out)",
    completes="file",
)
_SWITCH = (
    PATTERNS,
    EXCEPT,
    FILE,
    arg(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=duration,
        help="put them back after this long (500ms, 10s, 2m)",
    ),
    arg("--dry-run", action="store_true", help="say what would change and change nothing"),
)


@command(
    "list",
    arguments=(
        PATTERNS,
        EXCEPT,
        arg(
            "--state",
            choices=[state.value for state in EventState],
            help="only events in this state",
        ),
    ),
    examples=(
        "qtctl list 'virtio_blk_*' @run-state",
        "qtctl list --state enabled",
        "qtctl list --json | jq -r '.events[].name'",
    ),
    selects=True,
)
async def list_events(context: Context, options: argparse.Namespace) -> Result:
    """List events, sorted by name."""
    chosen = selection(options) or Selection.of("*")
    async with context.attached() as session:
        states = await session.states_of(chosen)
        names = sorted(chosen.pick(states))
        if not names:
            known = list(states if not chosen.plain else await session.all_states())
            raise nothing_matched(chosen, known, session.where)
        rows = [(n, states[n].value) for n in names if options.state in (None, states[n].value)]
    document = {"events": [{"name": name, "state": state} for name, state in rows]}
    return Result(document, lambda style: table(style, ("EVENT", "STATE"), rows))


@command(
    "info",
    arguments=(arg("event", metavar="EVENT", help="the event's name", completes="event"),),
    examples=("qtctl info virtio_blk_handle_read",),
)
async def info(context: Context, options: argparse.Namespace) -> Result:
    """Show one event's declaration and state."""
    async with context.attached() as session:
        states = await read_states(session.monitor, options.event)
        if options.event not in states:
            known = list(await read_states(session.monitor))
            raise nothing_matched(Selection.of(options.event), known, session.where)
        declared = session.facts.declaration(options.event)
        source = session.facts.declarations_path
    if declared is None:
        where = f"not declared in {source}" if source else "no trace-events-all was found"
        context.say(f"arguments are unknown: {where}; try: --events-all FILE")
    document = {
        "name": options.event,
        "state": states[options.event].value,
        "arguments": None if declared is None else [_argument(a) for a in declared.arguments],
        "format": declared and declared.format,
        "declared_in": None if declared is None else str(source),
    }
    return Result(document, lambda style: _info_lines(style, document, declared))


def _argument(argument: Argument) -> dict[str, str]:
    return {"name": argument.name, "type": argument.ctype, "kind": argument.kind.value}


def _info_lines(
    style: Style, document: dict[str, object], declared: Declaration | None
) -> Iterator[str]:
    rows = [("event", str(document["name"])), ("state", str(document["state"]))]
    if declared is not None:
        rows += [
            ("arguments", ", ".join(f"{a.ctype} {a.name}" for a in declared.arguments) or "none"),
            ("format", declared.format),
            ("declared in", str(document["declared_in"])),
        ]
    return pairs(style, rows)


@command(
    "enable",
    arguments=(
        *_SWITCH,
        arg(
            "-y",
            "--yes",
            action="store_true",
            help="do not ask before more than half of the guest's events are switched on",
        ),
    ),
    examples=(
        "qtctl enable virtio_blk_handle_read",
        "qtctl enable 'virtio_*' --except 'virtio_gpu*'",
        "qtctl enable 'usb_*' --for 10s",
        "qtctl enable --file my.events --dry-run",
    ),
    details="`qtctl restore` puts every event back as it was found.",
    selects=True,
)
async def enable(context: Context, options: argparse.Namespace) -> Result:
    """Switch events on."""
    try:
        return await _switch(context, options, True, agreed=options.yes)
    except TooBroad as broad:
        if not await context.confirm(f"{broad.message}; switch them on?"):
            raise
    return await _switch(context, options, True)


@command(
    "disable",
    arguments=_SWITCH,
    examples=("qtctl disable 'virtio_*'", "qtctl disable '*' --dry-run"),
    details="`qtctl restore` puts every event back as it was found.",
    selects=True,
)
async def disable(context: Context, options: argparse.Namespace) -> Result:
    """Switch events off."""
    return await _switch(context, options, False)


async def _switch(
    context: Context, options: argparse.Namespace, on: bool, *, agreed: bool = True
) -> Result:
    chosen = selection(options)
    if not chosen:
        raise UsageError(f"{options.verb} needs a PATTERN or --file", hint="qtctl list")
    for_a_while = options.seconds is not None and not options.dry_run
    async with context.attached(lend=for_a_while) as session:
        await _say_who_ignores(context, session)
        if not for_a_while:
            report = await session.leasing.switch(
                context.owner, chosen, on, dry_run=options.dry_run, agreed=agreed
            )
            return _report(context, report)
        context.stops = True
        async with session.switched(chosen, on, agreed=agreed) as report:
            context.say(f"{len(report.changed)} changed, for {options.seconds:g} s")
            await _pass_time(context, session, options.seconds)
        return _report(context, report)


async def _say_who_ignores(context: Context, session: Session) -> None:
    """Say where QMP's states decide nothing; costs next to nothing where they do."""
    if session.guest is None or not may_have_tracers(session.guest.pid):
        return
    known = (await session.backends()).known
    note = states_note(known)
    if note:
        everywhere = len(ignore_states(known)) == len(known)
        (context.complain if everywhere else context.say)(note)


async def _pass_time(context: Context, session: Session, seconds: float) -> None:
    """Wait, but no longer than the link and the user last."""
    lost = asyncio.ensure_future(session.monitor.wait_lost())
    stop = asyncio.ensure_future(context.stop.wait())
    done, rest = await asyncio.wait({lost, stop}, timeout=seconds, return_when="FIRST_COMPLETED")
    for task in rest:
        task.cancel()
    if lost in done:
        raise LinkLost(f"lost {session.where}: {lost.result()}")


def _report(context: Context, report: SwitchReport) -> Result:
    for pattern in report.unmatched:
        context.say(f"no event matches {pattern!r}")
    document = {
        "action": "enable" if report.enable else "disable",
        "dry_run": report.dry_run,
        "matched": list(report.matched),
        "changed": list(report.changed),
        "already": list(report.already),
        "unavailable": list(report.unavailable),
        "failed": list(report.failed),
        "unmatched": list(report.unmatched),
    }
    return Result(document, lambda style: _report_lines(style, report), int(bool(report.failed)))


def _report_lines(style: Style, report: SwitchReport) -> Iterator[str]:
    verb = "enabled" if report.enable else "disabled"
    would = "would be " if report.dry_run else ""
    yield (
        f"{len(report.matched)} matched, {len(report.changed)} {would}changed, "
        f"{len(report.already)} already {verb}, {len(report.unavailable)} unavailable"
    )
    if report.dry_run:
        yield from (f"  {escaped(name)}" for name in report.changed)
    for name in report.failed:
        yield style.paint(f"  {escaped(name)} read back as not {verb}", "bad")


@command(
    "restore",
    examples=("qtctl restore",),
    details="Leaves alone what a running qtctl still needs and what somebody else switched since.",
)
async def restore(context: Context, options: argparse.Namespace) -> Result:
    """Undo enable and disable, and what killed runs left."""
    async with context.attached() as session:
        given = await session.restore()
    document = {
        "restored": list(given.events),
        "left": list(given.left),
        "notes": list(given.notes),
    }
    lines = [f"{len(given.events)} put back", *given.notes]
    if given.left:
        lines.append(f"{len(given.left)} left as they are: switched by somebody else, or in use")
    return Result(document, lambda style: map(escaped, lines))
