"""The table of verbs: name, summary, and the module that declares each.

A verb's module is imported only when the verb runs or its help is shown.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Verb(NamedTuple):
    """A row of the table of verbs; ``module`` declares the verb with ``@command``.

    ``console`` is its role in a console. ``watch``: without arguments it prints the records of all
    enabled events, and the console starts it unasked. ``enables``: the console starts the watch
    before it. ``absent``: a console does not have it.
    """

    name: str
    summary: str
    module: str
    console: Literal["", "watch", "enables", "absent"] = ""


VERBS = (
    Verb("list", "list events and their states", "qtctl.commands.list"),
    Verb("info", "typed arguments, format and state of an event", "qtctl.commands.info"),
    Verb(
        "enable",
        "enable events until they are changed again",
        "qtctl.commands.enable",
        "enables",
    ),
    Verb("disable", "disable events until they are changed again", "qtctl.commands.enable"),
    Verb(
        "restore",
        "restore every event and log target that qtctl changed",
        "qtctl.commands.restore",
    ),
    Verb(
        "tail",
        "enable events, print their records, restore on exit",
        "qtctl.commands.tail",
        "watch",
    ),
    Verb("wait", "block until an event happens, print it", "qtctl.commands.wait"),
    Verb(
        "count",
        "count records by event or by the value of an argument; its histogram",
        "qtctl.commands.count",
    ),
    Verb("demo", "boot a 512-byte guest in a real QEMU and trace it", "qtctl.commands.demo"),
    Verb("diff", "compare two runs: events, rates, order, latencies", "qtctl.commands.diff"),
    Verb(
        "replay",
        "print the records of a file: a recording, a trace, or saved log text",
        "qtctl.commands.replay",
    ),
    Verb("export", "write the records of a file for other tools", "qtctl.commands.export"),
    Verb("ps", "list running guests", "qtctl.commands.ps"),
    Verb("status", "what is on, who has leases, where output goes", "qtctl.commands.status"),
    Verb(
        "doctor",
        "find what stops tracing, and the command that fixes it",
        "qtctl.commands.doctor",
    ),
    Verb(
        "latency",
        "time from one event to another: percentiles and a histogram",
        "qtctl.commands.latency",
    ),
    Verb(
        "record",
        "write records to a file, to replay, query or export",
        "qtctl.commands.record",
    ),
    Verb("on", "run an action when an event happens: on WHEN do ACTION", "qtctl.commands.on"),
    Verb(
        "probe",
        "measure how many records each event writes, before you enable it",
        "qtctl.commands.probe",
    ),
    Verb("query", "query files of records in SQL: each event is a table", "qtctl.commands.query"),
    Verb("hmp", "run one line of QEMU's human monitor", "qtctl.commands.hmp"),
    Verb("qmp", "send one QMP command and print its value", "qtctl.commands.qmp"),
    Verb(
        "sets",
        "list event sets, print one as an events file, save your own",
        "qtctl.commands.sets",
    ),
    Verb(
        "share",
        "lend the monitor to other consoles and to any QMP client",
        "qtctl.commands.share",
    ),
    Verb(
        "mark",
        "put a note into the stream of every console on this guest",
        "qtctl.commands.mark",
    ),
    Verb("completion", "print the completion script of a shell", "qtctl.commands.completion"),
    Verb("top", "live rates of events, by thread or argument", "qtctl.ui.top"),
    Verb("pane", "watch a guest in a tmux pane beside your work", "qtctl.ui.pane"),
    Verb(
        "repl",
        "a prompt for every verb, with records shown above the line",
        "qtctl.ui.repl",
        "absent",
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
