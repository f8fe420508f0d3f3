"""The table of verbs: name, summary, and the module that declares each.

A verb's module is imported only when the verb runs or its help is shown.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Role: TypeAlias = Literal["", "watch", "enables", "moves", "absent"]


class Verb(NamedTuple):
    """A row of the table of verbs; ``module`` declares the verb with ``@command``.

    ``task`` is what it is for, one of ``TASKS``. ``console`` is its role in a console. ``watch``:
    without arguments it prints the records of all enabled events, and the console starts it
    unasked. ``enables``: the console starts the watch before it. ``moves``: it goes on with another
    guest, for which the lines behind it are meant. ``absent``: a console does not have it.
    """

    task: str
    name: str
    summary: str
    module: str
    console: Role = ""


def _verb(task: str, name: str, summary: str, *, console: Role = "", module: str = "") -> Verb:
    """Return the row of a verb that ``qtctl.commands.NAME`` declares, or ``qtctl.MODULE``."""
    return Verb(task, name, summary, f"qtctl.{module or f'commands.{name}'}", console)


TASKS = {
    "look": "Look around",
    "switch": "Switch events",
    "follow": "Follow a guest",
    "measure": "Measure a guest, or a file",
    "files": "Keep records, and read files",
    "monitor": "Use the monitor",
    "learn": "Learn, and set up",
    "prompt": "This prompt",
}
"""The headings of help over the verbs, in order, by task."""

VERBS = (
    _verb("look", "ps", "list running guests"),
    _verb("look", "list", "list events and their states"),
    _verb("look", "info", "typed arguments, format and state of an event"),
    _verb("look", "status", "what is on, who has leases, where output goes"),
    _verb("look", "doctor", "find what stops tracing, and the command that fixes it"),
    _verb("switch", "enable", "enable events until they are changed again", console="enables"),
    _verb(
        "switch", "disable", "disable events until they are changed again", module="commands.enable"
    ),
    _verb("switch", "restore", "restore every event and log target that qtctl changed"),
    _verb("switch", "probe", "measure how many records each event writes, before you enable it"),
    _verb("switch", "sets", "list event sets, print one as an events file, save your own"),
    _verb("follow", "tail", "enable events, print their records, restore on exit", console="watch"),
    _verb(
        "follow", "run", "start a program of QEMU's, traced from its first event", console="absent"
    ),
    _verb("follow", "wait", "block until an event happens, print it"),
    _verb("follow", "top", "live rates of events, by thread or argument", module="ui.top"),
    _verb("follow", "pane", "watch a guest in a tmux pane beside your work", module="ui.pane"),
    _verb(
        "follow",
        "repl",
        "a prompt for every verb, with records shown above the line",
        console="absent",
        module="ui.repl",
    ),
    _verb("follow", "on", "run an action when an event happens: on WHEN do ACTION"),
    _verb("follow", "forward", "send records on while they come: OTLP, Parquet data sets"),
    _verb("follow", "mark", "put a note into the stream of every console on this guest"),
    _verb("measure", "count", "count records by event or by an argument; its histogram"),
    _verb("measure", "latency", "time from one event to another: percentiles and a histogram"),
    _verb("measure", "metrics", "serve rates, losses and latencies to Prometheus"),
    _verb("files", "record", "write records to a file, to replay, query or export"),
    _verb("files", "replay", "print the records of a recording, a trace, or saved log text"),
    _verb("files", "query", "query files of records in SQL: each event is a table"),
    _verb("files", "diff", "compare two runs: events, rates, order, latencies"),
    _verb("files", "export", "write the records of a file for other tools"),
    _verb("monitor", "share", "lend the monitor to other consoles and to any QMP client"),
    _verb("monitor", "qmp", "send one QMP command and print its value"),
    _verb("monitor", "hmp", "run one line of QEMU's human monitor"),
    _verb("learn", "demo", "a tour of a minute, on a small guest in a real QEMU"),
    _verb("learn", "help", "describe a verb, or list all", console="absent"),
    _verb(
        "learn",
        "config",
        "what the configuration file sets, and what could be set",
        module="ui.config",
    ),
    _verb("learn", "completion", "complete verbs, events and guests in a shell"),
)
"""The verbs of the command line, in the order of its help."""
HIDDEN_VERBS = (_verb("", "serve", "do the work here for the qtctl of another host"),)
"""The verbs that programs call; no help lists them."""

_OWN = "ui.console_verbs"
CONSOLE_VERBS = (
    _verb("prompt", "help", "list the verbs and keys, or describe one (also ?)", module=_OWN),
    _verb("prompt", "use", "go on with another guest", console="moves", module=_OWN),
    _verb("prompt", "jobs", "list the jobs in the background", module=_OWN),
    _verb("prompt", "stop", "stop a job: the newest, or the one with a number", module=_OWN),
    _verb("prompt", "quit", "leave (also exit); restore what this prompt switched", module=_OWN),
)
"""The verbs that only a console has."""

OTHER_NAMES = {"?": "help", "exit": "quit"}
"""Words that a console takes for verbs, and the verbs."""
