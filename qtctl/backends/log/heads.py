"""The words before a record in saved text: what they are, and the time, ids and names in them.

QEMU's own prefixes (util/error-report.c and trace/control.c of 7.2 to 11.1, and the one proposed on
qemu-devel in 2026), that of ``qemu-trace-stap run`` (scripts/tracetool/format/log_stap.py),
system logs (RFC 3164, RFC 5424, rsyslog, ``journalctl -o`` of systemd 252), collectors (docker,
CRI, kubectl, klog, GitLab and GitHub CI), grep, mail, terminals. :data:`FORMS` has a row for each
form; what is before a record is a sequence of them. Pure: bytes in, places out.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

ALIKE = bytes.maketrans(b"123456789", b"000000000")
"""Makes all digits alike: heads of lines differ in digits only."""
HEAD_LIMIT = 1024
"""Longer heads are not known."""
_MOST_LABELS = 12


class Known(IntEnum):
    """How far the words before a name are understood."""

    NOT = 0
    """Something that is in no form stands before the name."""
    LABELS = 1
    """They are words of any kind: the name's arguments decide whether it is a record."""
    WHOLLY = 2
    """All of them are in known forms: a record stands here."""


class HeadSpan(NamedTuple):
    """A range of bytes in a head."""

    begin: int
    stop: int


class Time(NamedTuple):
    """A time in a head: its form, the text of whole seconds, its fraction and its zone."""

    form: str
    seconds: HeadSpan
    fraction: HeadSpan
    zone: HeadSpan


class LineHead(NamedTuple):
    """What a head tells.

    ``own``: where QEMU's own prefix begins if other text is glued to it. ``part``: a mark of a
    collector that the line goes on in the next one. ``guest`` is the name of the guest or, where
    QEMU tells none, of a program in a system log that is not QEMU, with its pid; of a pod; of a
    container; of a file of grep's.
    """

    known: Known
    own: int = 0
    time: Time | None = None
    tid: HeadSpan | None = None
    pid: HeadSpan | None = None
    thread: HeadSpan | None = None
    guest: HeadSpan | None = None
    part: HeadSpan | None = None
    host: HeadSpan | None = None


LABELS = ("pid", "guest", "host", "thread")
"""Fields of a head that say where its record comes from."""
_TIMES = {"qemu": 2, "iso": 1, "unix": 1, "ctime": 1, "mail": 1, "web": 1, "yearless": 0, "klog": 0}
"""Forms of times, and their rank: QEMU's own is the record's, one without a year the vaguest."""
_FRACTION = rb"(?:[.,](?P<fraction>\d+))?"
_PLAIN = frozenset({"tid", "thread", "guest", "host", "part"})
_DAYS = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK = rb"\d\d:\d\d:\d\d(?![.,\d]* ?[AaPp]\.?[Mm]\b)"
"""No clock of twelve hours: its time would be wrong by twelve of them."""
_LEVEL = (
    rb"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL"
    rb"|VRB|TRC|DBG|INF|WRN|ERR|CRIT|FTL|LOG)\b"
)
_ISO = rb"(?P<iso>\d{4}[-/]\d\d[-/]\d\d[T _]" + _CLOCK + rb")" + _FRACTION
_SHIFT = rb"[+-]\d{1,2}(?::?\d\d)?"
_ZONE = (
    rb"(?: ?(?P<zone>[Zz]|"
    + _SHIFT
    + rb"|(?!"
    + _LEVEL
    + rb"|QEMU\b|KVM\b)[A-Z]{3,5}(?:"
    + _SHIFT
    + rb")?(?=[ \]):,])|[A-Z][A-Za-z]+/[\w/+-]+))?"
)
_ZONE_BEFORE_HOST = (
    rb"(?: (?P<zone>(?:UTC|GMT|[A-Z]{1,3}ST|[A-Z]{1,3}DT|[CEW]ES?T|MSK|SGT|HKT)(?=[ :])))?"
)
"""Where a host may follow the time, whose name may be of capital letters."""
_END = rb"(?![\w.])"
_WORD = rb"(?!\d{9,10}\.)[^\s\[\](){}<>:\"'=|]{1,80}"
"""Of a host or a program, but no time."""

#: Forms in the order in which they are tried. All digits are alike in them, as ``text.py`` expects.
FORMS = tuple(
    re.compile(form)
    for form in (
        rb"[ \t]+|\x1b\[[\d;?]*[@-~]|\xef\xbb\xbf",
        rb"(?P<tid>\d{1,10})@(?P<qemu>\d{1,10})\.(?P<fraction>\d{9}|\d{6}):",
        rb"(?P<pid>\d{1,10})@(?P<unix>\d{10})(?P<fraction>\d{9}) ",
        rb"@(?P<qemu>\d{1,10})\.(?P<fraction>\d{9}):",
        rb"<\d{1,3}>\d{1,2} (?:" + _ISO + _ZONE + rb"|-) (?P<host>\S+) "
        rb"(?P<sender>(?P<prog>\S+) (?P<pid>\d{1,10}|-)) \S+ "
        rb'(?:- ?|(?:\[[^\]"]*(?:"(?:[^"\\]|\\.)*"[^\]"]*)*\])+ ?)',
        rb"<\d{1,3}>",
        _ISO + _ZONE + _END,
        _DAYS + rb",? ",
        rb"(?P<ctime>[A-Z][a-z]{2} [ \d]\d " + _CLOCK + rb" (?:[A-Z]{3,4} )?\d{4})" + _END,
        rb"(?P<mail>\d{1,2} [A-Z][a-z]{2} \d{4} " + _CLOCK + rb")" + _ZONE + _END,
        rb"(?P<web>\d\d/[A-Z][a-z]{2}/\d{4}:" + _CLOCK + rb")" + _ZONE + _END,
        rb"[IWEF](?P<klog>\d{4} "
        + _CLOCK
        + rb")"
        + _FRACTION
        + rb"(?: +\d+ [^\s\]]+:\d+\])?"
        + _END,
        rb"(?P<yearless>[A-Z][a-z]{2} [ \d]\d "
        + _CLOCK
        + rb")"
        + _FRACTION
        + _ZONE_BEFORE_HOST
        + _END,
        rb"(?P<unix>\d{9,10})\.(?P<fraction>\d{1,9})" + _END,
        rb"\[ *\d+\.\d+(?: <[^>\n]*>)?\]",
        rb"(?:\[(?P<guest>[^\]\n]+)\] )?[\w.+-]+\((?:(?P<tid>\d{1,10}):)?(?P<thread>[^()\n]+)\): ",
        rb"(?!" + _LEVEL + rb")(?P<guest>[\w.-]+) +\| ",
        rb"(?:(?<= )(?P<host>" + _WORD + rb") )?"
        rb"(?P<sender>(?P<prog>" + _WORD + rb"(?: " + _WORD + rb"){0,3})\[(?P<pid>\d{1,10})\]): ?",
        rb"\[pod/(?P<guest>[^\]\s]+)\] ",
        rb"std(?:out|err) (?:F|(?P<part>P)) ",
        rb"\d\d[OE]\+? ",
        _LEVEL + rb":?",
        _CLOCK + rb"(?:[.,]\d+)?" + _END,
        rb"[>|+*#]+(?=[ \t>])|[>|+]+(?=\w|\Z)",
        rb"(?:(?P<guest>[\w./~+-]*[A-Za-z./~][\w./~+-]*):)?\d+:(?=[^\d]|\d+@|\d{4}-|\d{9,10}\.)",
        rb"(?P<guest>[\w./~+-]*[./][\w./~+-]*):",
        rb"\d+\t",
        rb"[\[\](),;:](?= |\d)|\](?= )|\[(?=[\dA-Z])",
    )
)
_LABEL = re.compile(rb"[^\s\x1b\"'{}=]{1,80}(?=[ \t])|[^\s\x1b\"'(){}=,:]{1,80}:")
_OWN = re.compile(rb"(?<!\d)\d{1,10}@\d{1,10}\.\d{6}(?:\d{3})?:$")
_OF_QEMU = re.compile(rb"qemu|kvm", re.IGNORECASE)


def read_head(head: bytes) -> LineHead:
    """Return what the words before a name tell; other digits at the same places tell the same."""
    match = _OWN.search(head[-32:])
    own = max(0, len(head) - 32) + match.start() if match else len(head)
    long = len(head) > HEAD_LIMIT
    known, found = (Known.NOT, dict[str, object]()) if long else _parse(head, own)
    if match is None:
        return _head(known, 0, found)
    if known is not Known.WHOLLY:
        found = {}
    _, last = _parse(head[own:], len(head) - own, own)
    return _head(Known.WHOLLY, own if known is not Known.WHOLLY else 0, found | last)


def _head(known: Known, own: int, found: dict[str, object]) -> LineHead:
    times = [time for form in _TIMES if isinstance(time := found.get(form), Time)]
    nearest = max(times, key=lambda time: (_TIMES[time.form], time.seconds.begin), default=None)
    fields = {name: found[name] for name in ("pid", *_PLAIN) if name in found}
    return LineHead(known, own, nearest, **fields)  # type: ignore[arg-type]


def _parse(head: bytes, end: int, base: int = 0) -> tuple[Known, dict[str, object]]:
    """Parse head[:end] as a sequence of forms; the places found are ``base`` further on."""
    at = labels = 0
    found: dict[str, object] = {}
    while at < end:
        for form in FORMS:
            match = form.match(head, at)
            if match and match.end() > at:
                break
        else:
            match = _LABEL.match(head, at)
            labels += 1
            if match is None or labels > _MOST_LABELS:
                return Known.NOT, found
        if "qemu" in match.re.groupindex and match.end() < len(head):
            return Known.NOT, found  # what follows QEMU's own prefix is another event, or none
        found |= _fields(match, base)
        at = match.end()
    return Known.LABELS if labels else Known.WHOLLY, found


def _fields(match: re.Match[bytes], base: int) -> dict[str, object]:
    """Return the named parts of a form, by name; those of a time as a :class:`Time`."""
    spans = {
        name: HeadSpan(match.start(name) + base, match.end(name) + base)
        for name, text in match.groupdict().items()
        if text is not None and text != b"-"
    }
    fields: dict[str, object] = {n: s for n, s in spans.items() if n in _PLAIN}
    prog = match.groupdict().get("prog")
    if prog is not None and not _OF_QEMU.search(prog):
        fields["guest"] = spans["sender"]
    elif "pid" in spans:
        fields["pid"] = spans["pid"]
    none = HeadSpan(0, 0)
    for form in _TIMES:
        if form in spans:
            parts = spans.get("fraction", none), spans.get("zone", none)
            fields[form] = Time(form, spans[form], *parts)
    return fields
