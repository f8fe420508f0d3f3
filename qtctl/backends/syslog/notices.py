"""What log daemons do to messages: those that they leave out, repeat or change.

Forms of rsyslog 8.2302 (runtime/ratelimit.c: ``message repeated N times: [ TEXT]``, also of
sysklogd; ``imuxsock[pid: N, name: PATH, ...]: M messages lost due to rate-limiting``, and ``...
begin to drop messages due to rate-limiting``) and of systemd 252's journald (``Suppressed M
messages from UNIT``). rsyslog escapes control characters (``$EscapeControlCharactersOnReceive``, on
by default). Pure: no files, no awaits.
"""

from __future__ import annotations

import re
from typing import NamedTuple

REPEAT_LIMIT = 1 << 16
"""How many lines one repeated line may become; of more, the rest is counted."""
ESCAPED = re.compile(rb"#(?:0[0-3][0-7]|177)")
"""A control character as rsyslog writes it, or these very characters: nothing tells."""
_REPEATED_MARK = b": message repeated "
_REPEATED = re.compile(
    rb"^(?P<head>.*?: )message repeated (?P<n>\d{1,18}) times: \[ ?(?P<text>.*)\]$"
)
_LIMITED = re.compile(
    rb"\[pid: (?P<pid>\d{1,18}),(?P<rest>.*)"
    rb"(?:: (?P<lost>\d{1,18}) messages lost|begin to drop messages) due to rate-limiting"
)
_NAME = re.compile(rb" name: ([^\s,\]]*)")
_SUPPRESSED = re.compile(rb"Suppressed (\d{1,18}) messages from (\S+)")


class Notice(NamedTuple):
    """Messages that a daemon dropped: ``lost`` of them, 0 when it begins to drop.

    Of process ``pid`` with executable ``name``, or of systemd unit ``unit``; empty: not reported.
    """

    lost: int
    pid: int = 0
    name: bytes = b""
    unit: bytes = b""


def read_notice(line: bytes) -> Notice | None:
    """Parse a line of a log daemon; None if it reports no dropped messages."""
    if match := _LIMITED.search(line):
        name = _NAME.search(match["rest"])
        return Notice(int(match["lost"] or 0), int(match["pid"]), name[1] if name else b"")
    if match := _SUPPRESSED.search(line):
        return Notice(int(match[1]), unit=match[2])
    return None


def may_hold_notice(data: bytes) -> bool:
    """Return whether some line of ``data`` may be a notice; quick."""
    return b"rate-limiting" in data or b"Suppressed " in data


def expand_repeats(data: bytes) -> tuple[bytes, int]:
    """Return whole lines with repeated ones expanded, and how many more there would be."""
    if _REPEATED_MARK not in data:
        return data, 0
    room, left = REPEAT_LIMIT, 0
    lines = []
    for line in data.splitlines(keepends=True):
        match = _REPEATED.match(line.rstrip(b"\n")) if _REPEATED_MARK in line else None
        if match is None:
            lines.append(line)
            continue
        times = int(match["n"])
        kept = min(times, room)
        room -= kept
        left += times - kept
        lines.append((match["head"] + match["text"] + b"\n") * kept)
    return b"".join(lines), left
