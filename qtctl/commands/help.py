"""The verb help: describe a verb, or list all."""

from __future__ import annotations

from qtctl.commands.context import Context, Result
from qtctl.commands.parsing import main_parser, row_of, verb_parser
from qtctl.commands.registry import COMMANDS, Options, arg, command
from qtctl.version import VERSION

TOPIC = arg("topic", nargs="?", metavar="VERB", completes="verb", help="one of the verbs")


@command(
    "help",
    arguments=(TOPIC,),
    examples=("qtctl help", "qtctl help tail", "qtctl help latency | less"),
    details="The same as `qtctl --help` and `qtctl VERB --help`.",
)
async def help_(context: Context, options: Options) -> Result:
    """Print the help of a verb, or of qtctl."""
    if options.topic is None:
        page = main_parser(COMMANDS, VERSION).format_help()
    else:
        page = verb_parser(row_of(COMMANDS, options.topic)).format_help()
    lines = page.rstrip().split("\n")
    return Result({"help": lines}, lambda style: lines)
