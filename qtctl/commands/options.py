"""The options and positional arguments that several verbs have, each declared once.

``OPTION.but(help=...)`` changes the help of one for a verb.
"""

from __future__ import annotations

from pathlib import Path

from qtctl.commands.registry import arg
from qtctl.commands.values import budget, count, duration, key, pair, pair_text, ring

# Which events.

PATTERNS = arg(
    "patterns",
    nargs="*",
    metavar="PATTERN",
    help="event name, pattern with * as QEMU matches it, or @SET (see qtctl sets)",
    completes="event",
)
EXCEPT = arg(
    "--except",
    metavar="PATTERN",
    dest="_except",
    help="leave these out; in order with the patterns, the last match wins "
    "(behind --, -PATTERN does the same)",
    completes="event",
)
FILE = arg(
    "--file",
    metavar="EVENTS",
    type=Path,
    help="read patterns from a QEMU events file (one a line, -PATTERN leaves out)",
    completes="file",
)
SELECTION = (PATTERNS, EXCEPT, FILE)
EVENT = arg("event", metavar="EVENT", help="the event's name", completes="event")

# Which records.

WHERE = arg(
    "--where",
    metavar="EXPR",
    help="only records for which this Python expression over their arguments holds; "
    "also: event, tid, time_ns, pid, guest, run, file",
    completes="filter",
)
KERNEL = arg(
    "--kernel",
    action="append",
    default=[],
    metavar="PATTERN",
    help="also these events of the kernel, such as 'kvm:*', by the guest's threads (as root)",
)
ALL = arg("--all", action="store_true", help="also lines of the log that are no trace events")

WAITS = arg(
    "--wait",
    dest="waits",
    action="store_true",
    help="wait for guests (-t) that are not there yet, and follow them again once they are back",
)

# The source, and the end.

BACKEND = arg(
    "--backend",
    default="auto",
    metavar="NAME",
    completes="backend",
    help="trace backend to read (default: auto)",
)
CLOCK = arg(
    "--clock",
    choices=("auto", "kernel", "arrival"),
    help="times of log lines that have none: when qtctl reads them (arrival), or when QEMU wrote "
    "them, by the kernel (as root); auto: the kernel's where permitted "
    "(default: arrival, or with --kernel auto)",
)
TRACE = arg(
    "path",
    metavar="FILE...",
    type=Path,
    completes="file",
    help="a recording, a simple trace, a folder of LTTng's, text of ftrace, or a log; - is stdin. "
    "Words behind it that name files are further FILEs",
)
FOLLOWED = arg(
    "--follow",
    action="store_true",
    help="text: print what is appended as it comes, also once FILE was truncated or rotated",
)
FROM = arg(
    "--from",
    metavar="FILE",
    dest="traces",
    action="append",
    default=[],
    type=Path,
    completes="file",
    help="read a file (-: stdin), not a guest; may be repeated",
)
DURATION = arg("--duration", metavar="TIME", type=duration, help="stop after this long (10s, 2m)")
JOBS = arg(
    "--jobs",
    metavar="N",
    type=count,
    help="of files: decode ahead in N - 1 threads (default: one for each processor; 1: none)",
)
MAX_EVENTS = arg("--max-events", metavar="N", type=count, help="stop after N records")
GUARD = arg(
    "--guard",
    metavar="N|MB",
    type=budget,
    help="over N events (or 20MB) a second, switch off the loudest until the end",
)
OWN = arg(
    "--own",
    action="store_true",
    help="also the records of qtctl's own requests, which QEMU traces as any client's",
)
FOLLOW = (WHERE, BACKEND, CLOCK, DURATION, MAX_EVENTS, OWN)
STRICT = arg("--strict", action="store_true", help="exit 6 if any record was lost, or unread")
PAIR = arg(
    "--pair",
    metavar="START,END[,KEY]",
    action="append",
    type=pair,
    default=[],
    help="also the latency of this pair of events; may be repeated",
)
ONE_PAIR = arg(
    "--pair",
    metavar="START,END[,KEY]",
    type=pair_text,
    help="measure the latency of this pair of events, over time",
)

KEY = arg(
    "--key",
    metavar="ARG[,ARG]",
    type=key,
    completes="argument",
    help="arguments that are the same in a START and its END, START_ARG=END_ARG if they have two "
    "names; tid: the same thread; none: the last START (default: what names a request in both)",
)

# The output.

BY = arg(
    "--by",
    metavar="ARG",
    default="event",
    help="group by an argument, tid, guest or event (default)",
    completes="argument",
)
LIMIT = arg(
    "--limit", metavar="N", type=count, help="print only the first N rows, and the rest as one"
)
INTERVAL = arg(
    "--interval", metavar="TIME", type=duration, help="print a summary every TIME, each on its own"
)
TIME = arg(
    "--time",
    choices=("abs", "rel", "delta", "none"),
    default="abs",
    help="time of day, since the first record, since the one before, or none",
)
WRAP = arg(
    "--wrap",
    action="store_true",
    help="on a terminal, continue long records on further rows; else they are cropped",
)
NDJSON = arg("--ndjson", action="store_true", help="one JSON object a line, schema qtctl/1")
OUTPUT = arg(
    "-o",
    "--output",
    metavar="FILE",
    dest="out",
    type=Path,
    help="write to a new file, a FIFO, a device, or - (stdout)",
    completes="file",
)
PARQUET = arg(
    "--parquet",
    metavar="DIR",
    help="write to a data set of Parquet files, in a folder or at s3://BUCKET/PREFIX",
    completes="file",
)
RING = arg(
    "--ring",
    metavar="SIZE|TIME",
    type=ring,
    help="keep only the last part, in memory, such as 64MiB or 30s",
)
