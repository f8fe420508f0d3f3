"""Running a one-shot verb on a guest of another host: that host's own qtctl runs it."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options
from qtctl.errors import UsageError
from qtctl.monitor.hosts import OtherHost
from qtctl.session.link import HostLink
from qtctl.shapes import Malformed, any_text, elements, member, whole
from qtctl.text.style import escaped


async def run_there(context: Context, options: Options, host: OtherHost) -> Result:
    """Run the call's words on another host, for its TARGET; return the result.

    Raises:
        UsageError: the call names a file, which would be one of that host.
        ConnectionFailed, LinkLost: the host cannot be reached, or went away.
        QtctlError: what the verb raises there.
    """
    for name, value in (
        ("--file", getattr(options, "file", None)),
        ("--events-all", options.events_all),
    ):
        if value is not None:
            raise UsageError(
                f"{name} names a file of this host, and the qtctl of {host.host} does the work",
                hint=f"{host.by_hand} qtctl ... {name} FILE",
            )
    async with HostLink(host, lambda text: context.talk([escaped(text)])) as link:
        if link.other_version:
            context.say(link.other_version)
        link.send(
            type="run",
            words=[*options.line],
            target=host.target,
            name=f"{context.name}: {host.host}" if context.name else host.host,
            style=[context.out_style.width, context.out_style.colour, context.out_style.unicode],
        )
        note = await link.note("result")
    try:
        lines = [any_text(line, "a line") for line in elements(member(note, "lines"), "the lines")]
        code = whole(member(note, "exit_code"), "the exit code", 0, 255)
        return Result(member(note, "document"), lambda style: lines, code)
    except Malformed as malformed:
        raise link.senseless(str(malformed)) from None
