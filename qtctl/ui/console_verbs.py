"""Verbs that only a console has: help, jobs, stop, quit."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.help import TOPIC
from qtctl.commands.parsing import row_of, verb_lines, verb_parser
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import count
from qtctl.errors import UsageError
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
Ctrl-D     leave; what this prompt switched is put back

`help VERB` shows more. `qtctl` in front of a verb may stay.
"""


def _console(context: Context) -> Console:
    assert isinstance(context, ConsoleContext)
    return context.console


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
