"""The table of verbs: name, summary, and the module that declares each.

A verb's module is imported only when the verb runs or its help is shown.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal["", "watch", "enables", "absent"]


class Verb(NamedTuple):
    """A row of the table of verbs; ``module`` declares the verb with ``@command``.

    ``console`` is its role in a console. ``watch``: without arguments it prints the records of all
    enabled events, and the console starts it unasked. ``enables``: the console starts the watch
    before it. ``absent``: a console does not have it.
    """

    name: str
    summary: str
    module: str
    console: Role = ""


def _verb(name: str, summary: str, *, console: Role = "") -> Verb:
    """Return the row of a verb that the module ``qtctl.commands.NAME`` declares."""
    return Verb(name, summary, f"qtctl.commands.{name}", console)


VERBS = (
    _verb("list", "list events and their states"),
    _verb("info", "typed arguments, format and state of an event"),
    _verb("enable", "enable events until they are changed again", console="enables"),
    Verb("disable", "disable events until they are changed again", "qtctl.commands.enable"),
    _verb("restore", "restore every event and log target that qtctl changed"),
    _verb("tail", "enable events, print their records, restore on exit", console="watch"),
    _verb("wait", "block until an event happens, print it"),
    _verb("count", "count records by event or by the value of an argument; its histogram"),
    _verb("demo", "boot a 512-byte guest in a real QEMU and trace it"),
    _verb("diff", "compare two runs: events, rates, order, latencies"),
    _verb("replay", "print the records of a file: a recording, a trace, or saved log text"),
    _verb("export", "write the records of a file for other tools"),
    _verb("ps", "list running guests"),
    _verb("status", "what is on, who has leases, where output goes"),
    _verb("doctor", "find what stops tracing, and the command that fixes it"),
    _verb("latency", "time from one event to another: percentiles and a histogram"),
    _verb("record", "write records to a file, to replay, query or export"),
    _verb("on", "run an action when an event happens: on WHEN do ACTION"),
    _verb("probe", "measure how many records each event writes, before you enable it"),
    _verb("query", "query files of records in SQL: each event is a table"),
    _verb("hmp", "run one line of QEMU's human monitor"),
    _verb("qmp", "send one QMP command and print its value"),
    _verb("sets", "list event sets, print one as an events file, save your own"),
    _verb("share", "lend the monitor to other consoles and to any QMP client"),
    _verb("mark", "put a note into the stream of every console on this guest"),
    _verb("completion", "print the completion script of a shell"),
    Verb("top", "live rates of events, by thread or argument", "qtctl.ui.top"),
    Verb("pane", "watch a guest in a tmux pane beside your work", "qtctl.ui.pane"),
    Verb(
        "repl",
        "a prompt for every verb, with records shown above the line",
        "qtctl.ui.repl",
        console="absent",
    ),
)
"""The verbs of the command line, in the order of its help."""

CONSOLE_VERBS = (
    Verb("help", "list the verbs and keys, or describe one verb", "qtctl.ui.console_verbs"),
    Verb("jobs", "list the jobs in the background", "qtctl.ui.console_verbs"),
    Verb("stop", "stop a job: the newest, or the one with a number", "qtctl.ui.console_verbs"),
    Verb("quit", "leave, and restore what this prompt switched", "qtctl.ui.console_verbs"),
)
"""The verbs that only a console has."""
