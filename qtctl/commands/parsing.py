"""Parsing argv into a verb and its options, by the command table. Needs no guest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from qtctl.commands.registry import Arg, Command, CommandTable, Options, arg
from qtctl.errors import UsageError

TARGETS = """\
TARGET is a socket path, unix:PATH, HOST:PORT, tcp:HOST:PORT, [::1]:4444, a pasted QEMU string
(unix:P,server=on,wait=off), a pid, or a guest's -name. Without -t: $QTCTL_TARGET, $QMP_SOCKET,
else the only guest that runs."""
EXIT_CODES = """\
exit codes: 0 done, 1 refused or another error, 2 usage, 3 nothing matched, 4 cannot connect or
monitor busy, 5 link lost, 6 data lost (--strict), 124 time-out, 130 Ctrl-C
(128 + n for a signal)"""


_help_format = partial(argparse.RawDescriptionHelpFormatter, max_help_position=28)


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process, and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        # argparse makes a formatter for each argument, to check it; without a width it would
        # import shutil.
        any_width = partial(_help_format, width=80)
        super().__init__(**options, allow_abbrev=False, formatter_class=any_width)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.replace(chr(0), "-"), hint=f"{self.prog} --help")

    def format_help(self) -> str:
        self.formatter_class = _help_format
        return super().format_help()


class _Once(argparse.Action):
    """Stores the value of an option, and refuses a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given: set[str] = vars(namespace).setdefault(_GIVEN, set())
        if self.dest in given:
            parser.error(f"{option_string} is given twice, and only one can be meant")
        given.add(self.dest)
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)


_GIVEN = "given"
"""The attribute with the options that were given so far, before and after the verb."""


def _add(to: argparse._ActionsContainer, argument: Arg, **more: Any) -> None:
    options = {**argument.options, **more}
    if argument.is_option:
        if options.get("action") == "store_const":
            options.update(action=_Once, nargs=0)
        options.setdefault("action", _Once)
    to.add_argument(*argument.flags, **options)
    if argument.hidden:
        dest = options.get("dest") or argument.flags[-1].lstrip("-").replace("-", "_")
        to.add_argument(*argument.hidden, **{**options, "dest": dest, "help": argparse.SUPPRESS})


COMMON = (
    arg("-t", "--target", completes="target", help="which guest (see qtctl -h)"),
    arg(
        "--events-all",
        metavar="FILE",
        type=Path,
        help="the trace-events-all of this QEMU build, if it is not found automatically; or a "
        "folder: an installed QEMU, or its source (of its trace-events)",
        completes="file",
    ),
    arg("--json", action="store_true", help="one JSON document"),
    arg(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour on a terminal (auto), always or never",
    ),
    arg("-q", "--quiet", action="store_true", help="no messages on stderr"),
    arg("-v", "--verbose", action="store_true", help="more messages on stderr"),
)
"""Options that may stand before and after the verb."""


def _add_common(parser: argparse.ArgumentParser, **preset: str) -> None:
    group = parser.add_argument_group("common options")
    for common in COMMON:
        _add(group, common, **preset)


def main_parser(table: CommandTable, version: str) -> argparse.ArgumentParser:
    """Return the parser for the words up to the verb."""
    width = max(map(len, table.summaries))
    verbs = "\n".join(f"  {name:{width}}  {about}" for name, about in table.summaries.items())
    parser = _Parser(
        prog="qtctl",
        usage="qtctl [-t TARGET] VERB ...",
        description="Switch QEMU's trace events on a running guest and print their records.\n\n"
        f"verbs:\n{verbs}",
        epilog=f"{TARGETS}\n\n{EXIT_CODES}\n\nqtctl VERB --help shows more, with examples.",
    )
    _add_common(parser)
    parser.add_argument("--version", action="version", version=f"qtctl {version}")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def verb_parser(row: Command) -> argparse.ArgumentParser:
    """Return the parser for the arguments of one verb."""
    examples = "\n".join(f"  {example}" for example in row.examples)
    parser = _Parser(
        prog=f"qtctl {row.name}",
        description=row.summary[:1].upper() + row.summary[1:] + ".",
        epilog="\n\n".join(filter(None, (row.details, examples and f"examples:\n{examples}"))),
    )
    for argument in row.arguments:
        _add(parser, argument)
    _add_common(parser, default=argparse.SUPPRESS)  # keeps values that stand before the verb
    return parser


def parse(
    argv: Sequence[str], table: CommandTable, version: str, *, alone: str = ""
) -> tuple[Command, Options]:
    """Parse argv; return the verb (``alone`` if argv names none) and its options.

    Raises:
        UsageError: argv names no verb, or does not fit it.
        SystemExit: ``--help`` or ``--version`` was printed.
    """
    main = main_parser(table, version)
    options = main.parse_args(list(argv), Options())
    if alone and not options.words:
        options.words = [alone]
    if not options.words:
        raise UsageError("a verb is needed", hint="qtctl --help")
    options.verb, *rest = options.words
    del options.words
    row = table.rows.get(options.verb)
    if row is None:
        import difflib

        similar = difflib.get_close_matches(options.verb, table.summaries, n=1)
        raise UsageError(
            f"there is no verb {options.verb!r}",
            hint=f"qtctl {similar[0] if similar else '--help'}",
        )
    parse_verb(row, rest, options)
    vars(options).pop(_GIVEN, None)
    return row, options


def parse_verb(row: Command, words: list[str], options: Options) -> Options:
    """Parse the words after the verb into ``options``, and return them; raise as ``parse`` does."""
    parser = verb_parser(row)
    if row.until:
        at = words.index(row.until) if row.until in words else len(words)
        options.behind = words[at + 1 :]
        parser.parse_intermixed_args(words[:at], namespace=options)
    elif row.selects:
        from qtctl.commands.values import in_order

        parser.parse_intermixed_args(in_order(words), namespace=options)
    else:
        parser.parse_args(words, namespace=options)
    return options
