"""What a system log leaves out of a text that was saved of it, and says so.

Pure text in, text and counts out. Forms of rsyslog 8.2302 (``message repeated N times: [ TEXT]``,
also of sysklogd; ``imuxsock[pid: N, name: PATH, ...]: M messages lost due to rate-limiting``) and
of systemd 252's journald (``Suppressed M messages from UNIT``).
"""

from __future__ import annotations

import re

__all__ = ["begins_to_drop", "lost_in", "may_tell_of_losses", "unsquashed"]

REPEAT_LIMIT = 1 << 16
"""How many lines one call may add; of more, the rest is counted."""
_MARK = b": message repeated "
_REPEATED = re.compile(
    rb"^(?P<head>.*?: )message repeated (?P<n>\d{1,18}) times: \[ ?(?P<text>.*)\]$"
)
_LOST = re.compile(rb"name: \S*qemu.*: (\d{1,18}) messages lost due to rate-limiting")
_BEGIN = re.compile(rb"name: \S*qemu.*begin to drop messages due to rate-limiting")
_SUPPRESSED = re.compile(rb"Suppressed (\d{1,18}) messages from \S*(?:qemu|kvm|libvirt)")


def unsquashed(data: bytes) -> tuple[bytes, int]:
    """Return whole lines with repeated ones written out, and how many more there would be."""
    if _MARK not in data:
        return data, 0
    room, left = REPEAT_LIMIT, 0
    lines = []
    for line in data.splitlines(keepends=True):
        match = _REPEATED.match(line.rstrip(b"\n")) if _MARK in line else None
        if match is None:
            lines.append(line)
            continue
        times = int(match["n"])
        kept = min(times, room)
        room -= kept
        left += times - kept
        lines.append((match["head"] + match["text"] + b"\n") * kept)
    return b"".join(lines), left


def lost_in(line: str) -> int:
    """Return how many messages of a QEMU a log daemon says to have dropped; 0 if none."""
    data = line.encode("utf-8", "surrogateescape")
    match = _LOST.search(data) or _SUPPRESSED.search(data)
    return int(match[1]) if match else 0


def begins_to_drop(line: str) -> bool:
    """Tell whether a log daemon says that it drops messages of a QEMU from now on."""
    return _BEGIN.search(line.encode("utf-8", "surrogateescape")) is not None


def may_tell_of_losses(data: bytes) -> bool:
    """Tell whether some line of ``data`` may be such a notice."""
    return b"rate-limiting" in data or b"Suppressed " in data
