"""All verbs: importing this module declares them."""

from __future__ import annotations

from qtctl.commands import (
    control,
    counting,
    demo,
    diff,
    export,
    inspect,
    latency,
    on,
    probe,
    query,
    raw,
    record,
    replay,
    sets,
    sharing,
    shell,
    stream,
)
from qtctl.commands.registry import COMMANDS
from qtctl.ui import pane, repl, top

__all__ = [
    "COMMANDS",
    "control",
    "counting",
    "demo",
    "diff",
    "export",
    "inspect",
    "latency",
    "on",
    "pane",
    "probe",
    "query",
    "raw",
    "record",
    "repl",
    "replay",
    "sets",
    "sharing",
    "shell",
    "stream",
    "top",
]
