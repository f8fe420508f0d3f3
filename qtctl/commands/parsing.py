"""Parsing argv into a verb and its options, by the command table. Needs no guest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from qtctl.commands.defaults import alias_words, aliases, expanded, with_defaults
from qtctl.commands.registry import Arg, Command, CommandTable, Options, arg
from qtctl.errors import UsageError
from qtctl.events.patterns import near
from qtctl.model import EVERY

TARGETS = """\
TARGET is a socket path, unix:PATH, HOST:PORT, tcp:HOST:PORT, [::1]:4444, a pasted QEMU string
(unix:P,server=on,wait=off), a pid, a guest's -name, libvirt:DOMAIN, or one of another host as
ssh://[USER@]HOST[:PORT]/TARGET. Without -t: $QTCTL_TARGET, $QMP_SOCKET, else the only guest that
runs. -t may be repeated; -t all, or --all, means all guests of this machine. If a guest fails,
others go on; the exit code is that of the first in order that failed."""
EXIT_CODES = """\
exit codes: 0 done, 1 refused or another error, 2 usage, 3 nothing matched, 4 cannot connect or
monitor busy, 5 link lost, 6 data lost (--strict), 124 time-out, 130 Ctrl-C
(128 + n for a signal)"""

_SUMMARY = "Switch QEMU's trace events on a running guest and print their records."
_EXAMPLES = (
    "qtctl demo                        a tour of a minute, on a small guest of its own",
    "qtctl ps                          the guests that run here",
    "qtctl tail 'virtio_blk_*'         what the disks of a guest do, until Ctrl-C",
)
_FIRST_EXAMPLES = 3

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
        """Return summary and examples (the description), usage, arguments, and the epilog."""
        formatter = _help_format(f"{self.prog} [options]")
        formatter.add_text(self.description)
        positional = [action for action in self._actions if not action.option_strings]
        formatter.add_usage(self.usage, positional, [])
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def refuse(self, words: Sequence[str], table: CommandTable | None = None) -> None:
        """Refuse the words, if any, that are no arguments, and name an option that is near.

        ``table`` has the verbs behind which an option may belong.
        """
        if not words:
            return
        option = next((word.partition("=")[0] for word in words if word.startswith("--")), "")
        shown = [
            flag
            for action in self._actions
            for flag in action.option_strings
            if action.help != argparse.SUPPRESS
        ]
        found = near(option, shown, 1) if option else []
        hint = f"{self.prog} {found[0] if found else '--help'}"
        rows = table.rows.values() if table else ()
        if any(option in one.flags for row in rows for one in row.arguments):
            hint = f"{self.prog} VERB ... {option}, behind its verb"
        text = f"unrecognized arguments: {' '.join(words)}"
        raise UsageError(text.replace(chr(0), "-"), hint=hint)


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
"""The attribute with the options that were given, not configured, before and after the verb."""


def _add(to: argparse._ActionsContainer, argument: Arg, **more: Any) -> None:
    options = {**argument.options, **more}
    if argument.is_option:
        if options.get("action") == "store_const":
            options.update(action=_Once, nargs=0)
        options.setdefault("action", _Once)
    to.add_argument(*argument.flags, **options)
    if argument.hidden:
        hidden = {**options, "dest": argument.dest, "help": argparse.SUPPRESS}
        to.add_argument(*argument.hidden, **hidden)


COMMON = (
    arg(
        "-t",
        "--target",
        dest="targets",
        action="append",
        default=[],
        metavar="TARGET",
        completes="target",
        help="which guest (see qtctl -h); may be repeated, and be: all",
    ),
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
"""Options that may stand before and after the verb, and have a default in the configuration."""
SHARED = (
    *COMMON,
    arg(
        "--all",
        dest="targets",
        action="append_const",
        const=EVERY,
        default=[],
        help="all guests of this machine, as -t all",
    ),
)
"""Options that may stand before and after the verb."""


def shared_by(row: Command | None) -> list[Arg]:
    """Return the shared options that may stand after a verb: it has none of its own of that name.

    None: before the verb.
    """
    own = {flag for one in row.arguments for flag in one.flags} if row else set()
    return [one for one in SHARED if own.isdisjoint(one.flags)]


def _add_shared(parser: argparse.ArgumentParser, row: Command | None, **preset: str) -> None:
    group = parser.add_argument_group("common options")
    for one in shared_by(row):
        _add(group, one, **preset)


def verb_lines(table: CommandTable) -> list[str]:
    """Return the verbs with their summaries, under a heading for each task."""
    width = max(map(len, table.summaries))
    lines: list[str] = []
    for heading, verbs in table.by_task():
        lines += ["", f"{heading}:"]
        lines += [f"  {verb.name:{width}}  {verb.summary}" for verb in verbs]
    if own := aliases():
        lines += ["", "Your aliases:", *(f"  {name:{width}}  {own[name]}" for name in own)]
    return lines


def main_parser(table: CommandTable, version: str) -> _Parser:
    """Return the parser for the words up to the verb."""
    verbs = "\n".join(verb_lines(table)).replace("%", "%%")
    parser = _Parser(
        prog="qtctl",
        usage=f"qtctl [options] VERB ...\n{verbs}",
        description="\n".join([_SUMMARY, "", *(f"  {example}" for example in _EXAMPLES)]),
        epilog=f"{TARGETS}\n\n{EXIT_CODES}\n\nqtctl help VERB has all about a verb.",
    )
    _add_shared(parser, None)
    parser.add_argument("--version", action="version", version=f"qtctl {version}")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def verb_parser(row: Command) -> _Parser:
    """Return the parser for the arguments of one verb."""
    examples = [f"  {example}" for example in row.examples]
    first, more = examples[:_FIRST_EXAMPLES], examples[_FIRST_EXAMPLES:]
    behind = [row.details] if row.details else []
    if more:
        behind.append("\n".join(["more examples:", *more]))
    parser = _Parser(
        prog=f"qtctl {row.name}",
        description="\n".join([f"{row.summary[:1].upper()}{row.summary[1:]}.", "", *first]),
        epilog="\n\n".join(behind),
    )
    for argument in row.arguments:
        _add(parser, argument)
    _add_shared(parser, row, default=argparse.SUPPRESS)  # keeps values that stand before the verb
    if row.until:
        usage = parser.format_usage().removeprefix("usage: ").rstrip().replace("%", "%%")
        indent = " " * len(f"usage: {parser.prog} ")
        parser.usage = f"{usage}\n{indent}{row.usage_end}"
    return parser


def row_of(table: CommandTable, verb: str) -> Command:
    """Return the row of a verb; raise a UsageError, with a verb that is near, if there is none."""
    row = table.rows.get(verb)
    if row is None and verb in (own := aliases()):
        row = table.rows.get(alias_words(own[verb])[0])
    if row is None:
        similar = near(verb, [*table.summaries, *aliases()], 1)
        hint = f"qtctl {similar[0] if similar else '--help'}"
        raise UsageError(f"there is no verb {verb!r}", hint=hint)
    return row


def parse(
    argv: Sequence[str],
    table: CommandTable,
    version: str,
    *,
    alone: str = "",
    only_default: str = "",
) -> tuple[Command, Options]:
    """Parse argv; return the verb (``alone`` if argv names none) and its options.

    The defaults of the user's configuration hold, or ``only_default`` of them.

    Raises:
        UsageError: argv names no verb, or does not fit it.
        SystemExit: ``--help`` or ``--version`` was printed.
    """
    main = main_parser(table, version)
    options, rest = main.parse_known_args(list(argv), Options())
    main.refuse(rest, table)
    if alone and not options.words:
        options.words = [alone]
    if not options.words:
        raise UsageError("a verb is needed", hint="qtctl --help")
    words = options.words
    del options.words
    given = vars(options).get(_GIVEN, ())
    try:
        options.verb, *rest = expanded(words)
        options.line = [*argv[: len(argv) - len(words)], options.verb, *rest]
        row = row_of(table, options.verb)
        row = with_defaults(row, COMMON, options, given, only=only_default)
    except UsageError:
        if words[0] not in table.rows or not {"-h", "--help"} & {*words}:
            raise
        row, rest = table.rows[words[0]], words[1:]  # help needs no configuration
    parse_verb(row, rest, options)
    options.given = frozenset(vars(options).get(_GIVEN, ()))
    return row, options


def parse_verb(row: Command, words: list[str], options: Options) -> Options:
    """Parse the words after the verb into ``options``, and return them; raise as ``parse`` does."""
    parser = verb_parser(row)
    if row.until:
        at = words.index(row.until) if row.until in words else len(words)
        words, options.behind = words[:at], words[at + 1 :]
    if row.selects:
        from qtctl.commands.values import in_order

        words = in_order(words)
    intermixed = row.until or row.selects
    parse = parser.parse_known_intermixed_args if intermixed else parser.parse_known_args
    _, wrong = parse(words, namespace=options)
    parser.refuse(wrong)
    return options
