"""Generates manual pages from the command table: ``python -m qtctl.manual FOLDER``.

``qtctl.1`` is the overview, ``qtctl-VERB.1`` describes one verb. Format: man(7), for groff and
mandoc.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from qtctl.commands.parsing import EXIT_CODES, SHARED, TARGETS, shared_by
from qtctl.commands.registry import COMMANDS, Arg, Command, CommandTable
from qtctl.errors import UsageError
from qtctl.version import VERSION

_SUMMARY = "switch QEMU's trace events on a running guest and show their records"
_WIDTH = 78
_MARKS = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_ENVIRONMENT = (
    ("QTCTL_TARGET, QMP_SOCKET", "the guest, without -t"),
    ("NO_COLOR, TERM=dumb", "no colour, unless --color is given"),
    ("XDG_STATE_HOME", "the folder of leases, which restore a guest after a crash"),
    ("XDG_RUNTIME_DIR, XDG_CACHE_HOME", "the folders of spools and of event names seen before"),
    (
        "XDG_CONFIG_HOME",
        "the folder of qtctl/config.toml, and of sets: qtctl/sets/NAME.events",
    ),
    ("QTCTL_CONFIG", "another configuration file; empty: none is read"),
    ("PAGER", "shows long answers of the prompt (less -R)"),
)


def pages(table: CommandTable, version: str, date: str) -> dict[str, str]:
    """Return the text of every page by file name; ``date`` is in the footer (2026-11-23)."""
    rows = table.rows.values()
    verbs = {f"qtctl-{row.name}.1": _verb_page(row, version, date) for row in rows}
    return {"qtctl.1": _main_page(table, version, date), **verbs}


def _main_page(table: CommandTable, version: str, date: str) -> str:
    lines = [
        *_head("qtctl", _SUMMARY, version, date),
        ".SH SYNOPSIS",
        ".B qtctl",
        "[\\fIoptions\\fR] \\fIverb\\fR ...",
        ".SH DESCRIPTION",
        *_filled(
            "qtctl connects to a running QEMU over QMP: it enables trace events, reads their "
            "records from the trace backend that QEMU was built with, and restores every event "
            "on exit."
        ),
        ".PP",
        *_filled(TARGETS),
        ".SH VERBS",
    ]
    for heading, verbs in table.by_task():
        lines.append(f".SS {_roff(heading)}")
        for verb in verbs:
            lines += [".TP", f".BR qtctl\\-{_roff(verb.name)} (1)", *_filled(verb.summary)]
    lines += [".SH OPTIONS", *_arguments(SHARED), ".SH EXIT STATUS", *_filled(EXIT_CODES)]
    lines.append(".SH ENVIRONMENT")
    for name, use in _ENVIRONMENT:
        lines += [".TP", f".B {_roff(name)}", *_filled(use)]
    return "\n".join([*lines, ""])


def _verb_page(row: Command, version: str, date: str) -> str:
    positional = [one for one in row.arguments if not one.is_option]
    lines = [
        *_head(f"qtctl-{row.name}", row.summary, version, date),
        ".SH SYNOPSIS",
        f".B qtctl {_roff(row.name)}",
        " ".join(["[\\fIoptions\\fR]", *map(_usage, positional), _roff(row.usage_end)]).rstrip(),
        ".SH DESCRIPTION",
        *_filled(f"{row.summary[:1].upper()}{row.summary[1:]}.\n\n{row.details}".rstrip()),
        ".SH OPTIONS",
        *_arguments((*row.arguments, *shared_by(row))),
        ".SH EXAMPLES",
        ".nf",
        *map(_roff, row.examples),
        ".fi",
        ".SH SEE ALSO",
        ".BR qtctl (1)",
        "",
    ]
    return "\n".join(lines)


def _head(name: str, summary: str, version: str, date: str) -> list[str]:
    title = _roff(name.upper())
    return [
        f'.TH {title} 1 "{date}" "qtctl {version}" "User Commands"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_roff(name)} \\- {_roff(summary)}",
    ]


def _arguments(arguments: Iterable[Arg]) -> Iterator[str]:
    for one in arguments:
        names = one.flags if one.is_option else ()
        flags = ", ".join(f"\\fB{_roff(flag)}\\fR" for flag in names)
        yield ".TP"
        yield f"{flags} {_value(one)}".strip()
        yield from _filled(str(one.options.get("help", "")).replace("%%", "%"))


def _value(one: Arg) -> str:
    """Return the placeholder of an argument's value; empty where it takes none."""
    if not one.takes_value:
        return ""
    choices = one.options.get("choices")
    if choices and "metavar" not in one.options:
        return "|".join(_roff(str(choice)) for choice in choices)
    named = one.options.get("metavar") or one.flags[-1].lstrip("-").upper()
    return f"\\fI{_roff(str(named))}\\fR"


def _usage(one: Arg) -> str:
    value, nargs = _value(one), one.options.get("nargs")
    shown = {"*": f"[{value} ...]", "+": f"{value} ...", "?": f"[{value}]", "...": f"[{value} ...]"}
    return shown.get(str(nargs), value)


def _filled(text: str) -> Iterator[str]:
    """Yield paragraphs, divided by blank lines in ``text``; indented ones are not wrapped."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip("\n"))):
        if number:
            yield ".PP"
        if paragraph.startswith(" "):
            yield from (".nf", *map(_roff, paragraph.splitlines()), ".fi")
        else:
            wrapped = textwrap.wrap(
                paragraph, _WIDTH, break_on_hyphens=False, break_long_words=False
            )
            yield from map(_roff, wrapped)


def _roff(text: str) -> str:
    """Escape ``text`` so that roff prints it literally."""
    escaped = "".join(_MARKS.get(char, char) for char in text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def main(argv: Sequence[str]) -> None:
    """Write all pages into the folder that is named; raise a UsageError if none is."""
    if len(argv) != 1:
        raise UsageError("no folder for the pages is named", hint="./dev man")
    folder = Path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    built = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(built))
    for name, text in pages(COMMANDS, VERSION, date).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
