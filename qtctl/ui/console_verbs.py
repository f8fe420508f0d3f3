"""Verbs that only a console has: help, jobs, stop, quit."""

from __future__ import annotations

import shlex
from dataclasses import replace

from qtctl.commands.context import Context, Result
from qtctl.commands.help import TOPIC
from qtctl.commands.parsing import row_of, verb_lines, verb_parser
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import count
from qtctl.errors import QtctlError, UsageError
from qtctl.text.tables import table
from qtctl.ui.console import Console, ConsoleContext
from qtctl.ui.jobs import Job

_KEYS = """
What is on is shown as it comes, whoever switched it on. The events of a `tail` are shown by that
alone, as it filters them. Long verbs go on as jobs while more is typed. A flood is thinned for the
eye, with a count of what was not drawn; counts, filters and -o FILE get every record.

Tab        complete; events are found by any part of their names
Enter      run the line; where a quotation is open, go on in the next
Alt-Enter  add a line
Ctrl-C     clear the line; on an empty one stop the newest job
Ctrl-R     search in the lines of before; Ctrl-C leaves that
Ctrl-G     choose another guest, as `use` does
Ctrl-D     leave; what this prompt switched is put back

`help VERB` shows more. `qtctl` in front of a verb may stay.
"""


def _own(context: Context) -> ConsoleContext:
    assert isinstance(context, ConsoleContext)
    return context


def _console(context: Context) -> Console:
    return _own(context).console


def _jobs(context: Context) -> list[Job]:
    return [job for job in _console(context).jobs.running if job.context is not context]


@command(
    "help",
    arguments=(TOPIC,),
    examples=("help", "help tail"),
)
async def help_(context: Context, options: Options) -> Result:
    """Print the verbs and keys, or the help of one verb."""
    table = _console(context).table
    if options.topic is None:
        lines = [*verb_lines(table)[1:], *_KEYS.rstrip().split("\n")]
    else:
        lines = verb_parser(row_of(table, options.topic)).format_help().rstrip().split("\n")
    return Result({"help": lines}, lambda style: lines)


@command(
    "use",
    arguments=(
        arg(
            "guest",
            nargs="?",
            metavar="GUEST",
            completes="target",
            help="any TARGET, as of -t (default: choose from a list)",
        ),
    ),
    examples=("use vm2", "use /run/vm2.sock", "use"),
    details="""\
Jobs on the guest of before end, and what this prompt switched there is put back. If the other one
does not answer, the prompt stays on this one, and lines typed meanwhile are not run.""",
)
async def use(context: Context, options: Options) -> int:
    """Go on with another guest."""
    console = _console(context)
    target: str | None = options.guest
    if options.targets:
        raise UsageError("-t is for other verbs", hint=f"use {shlex.quote(options.targets[0])}")
    if target is None:
        if console.pick is None:
            raise UsageError("nothing can be chosen from a list here", hint="use GUEST")
        if (target := await console.pick()) is None:
            return 0
    try:
        moved = await console.use(replace(_own(context), target=target))
    except QtctlError as error:
        code = context.fail(error)
        context.say(f"still on {console.session.where}")
        return code
    if not moved:
        context.say(f"already on {console.place}")
    return 0


@command("jobs", examples=("jobs",))
async def jobs(context: Context, options: Options) -> Result:
    """List the jobs, the newest last."""
    running = _jobs(context)
    if not running:
        context.say("nothing runs here")
    document = {"jobs": [{"number": job.number, "line": job.line} for job in running]}
    rows = [(str(job.number), job.line) for job in running]
    return Result(document, lambda style: table(style, ("JOB", "LINE"), rows))


@command(
    "stop",
    arguments=(arg("number", nargs="?", type=count, metavar="JOB", help="its number in `jobs`"),),
    examples=("stop", "stop 3"),
)
async def stop(context: Context, options: Options) -> int:
    """Stop a job."""
    found = [job for job in _jobs(context) if options.number in (None, job.number)]
    if not found:
        which = "no job" if options.number is None else f"no job {options.number}"
        raise UsageError(f"there is {which}", hint="jobs")
    _console(context).stop(found[-1])
    return 0


@command("quit", examples=("quit",))
async def quit_(context: Context, options: Options) -> int:
    """Leave the console."""
    _console(context).left.set()
    return 0
