"""The verbs enable and disable: switch events until they are changed again."""

from __future__ import annotations

from collections.abc import Iterator

from qtctl.backends.tracers import ignore_states, may_have_tracers, states_note
from qtctl.commands.context import Context, Result
from qtctl.commands.options import SELECTION
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import duration, selection
from qtctl.errors import OutcomeUnknown, TooBroad, UsageError
from qtctl.events.states import SwitchReport, unknown_words
from qtctl.session.session import Session
from qtctl.text.style import Style, escaped

_SWITCH = (
    *SELECTION,
    arg(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=duration,
        help="switch them back after this time (500ms, 10s, 2m)",
    ),
    arg("--dry-run", action="store_true", help="print what would change, and change nothing"),
)


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
    details="`qtctl restore` puts every event back as it was before.",
    selects=True,
    guests="each",
)
async def enable(context: Context, options: Options) -> Result:
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
    examples=(
        "qtctl disable 'virtio_*'",
        "qtctl disable '*' --dry-run",
        "qtctl disable 'usb_*' --for 10s",
    ),
    details="`qtctl restore` puts every event back as it was before.",
    selects=True,
    guests="each",
)
async def disable(context: Context, options: Options) -> Result:
    """Switch events off."""
    return await _switch(context, options, False)


async def _switch(context: Context, options: Options, on: bool, *, agreed: bool = True) -> Result:
    chosen = selection(options)
    if not chosen:
        raise UsageError(f"{options.verb} needs a PATTERN or --file", hint="qtctl list")
    for_a_while = options.seconds is not None and not options.dry_run
    async with context.attached(lend=for_a_while) as session:
        await _report_ignoring_backends(context, session)
        if not for_a_while:
            report = await session.leasing.switch(
                context.owner, chosen, on, dry_run=options.dry_run, agreed=agreed
            )
            return _report(context, report)
        context.stops = True
        async with session.switched(chosen, on, agreed=agreed) as report:
            changed = len(report.changed)
            context.say(f"{changed} changed, for {options.seconds:g} s; Ctrl-C gives back")
            await context.wait_stopped(session, options.seconds)
        return _report(context, report)


async def _report_ignoring_backends(context: Context, session: Session) -> None:
    """Report backends that ignore QMP's event states; nearly free where there are none."""
    if session.guest is None or not may_have_tracers(session.guest.pid):
        return
    known = (await session.backends()).known
    note = states_note(known)
    if note:
        everywhere = len(ignore_states(known)) == len(known)
        (context.complain if everywhere else context.say)(note)


def _report(context: Context, report: SwitchReport) -> Result:
    for pattern in report.unmatched:
        context.say(f"no event matches {pattern!r}")
    lists = ("matched", "changed", "already", "unavailable", "failed", "unknown", "unmatched")
    document = {
        "action": "enable" if report.enable else "disable",
        "dry_run": report.dry_run,
        **{name: list(getattr(report, name)) for name in lists},
    }
    code = OutcomeUnknown.exit_code if report.unknown else int(bool(report.failed))
    return Result(document, lambda style: _report_lines(style, report), code)


def _report_lines(style: Style, report: SwitchReport) -> Iterator[str]:
    verb = "enabled" if report.enable else "disabled"
    would = "would be " if report.dry_run else ""
    yield (
        f"{len(report.matched)} matched, {len(report.changed)} {would}changed, "
        f"{len(report.already)} already {verb}, {len(report.unavailable)} unavailable"
    )
    if report.dry_run:
        yield from (f"  {escaped(name)}" for name in report.changed)
    if report.unknown:
        yield style.paint(f"  {unknown_words(report)}", "bad")
    for name in report.failed:
        yield style.paint(f"  {escaped(name)} read back as not {verb}", "bad")
