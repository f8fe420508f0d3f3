"""Log text inside other text: UTF-16 or a BOM (PowerShell), mails, and JSON lines of collectors.

JSON: docker's json-file (``log``, ``time``), kubevirt's virt-launcher (``msg``, ``timestamp``),
``journalctl -o json`` (``MESSAGE``, ``__REALTIME_TIMESTAMP``, systemd.journal-fields(7)), Elastic's
schema and Vector (``message``, ``@timestamp``), GELF, Loki; with the pod or container that fluentd
and podman name. An object may follow a collector's words, as in CRI's files, or be a message.
"""

from __future__ import annotations

import codecs
import json
import re
from contextlib import suppress
from typing import Any

from qtctl.backends.log.divided import MailDecoder
from qtctl.backends.log.heads import ALIKE, Known, read_head

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TEXTS = ("log", "msg", "MESSAGE", "message", "short_message", "line")
_TIMES = ("time", "timestamp", "@timestamp", "ts", "__REALTIME_TIMESTAMP")
_UNIX = re.compile(r"(\d{10})((?:\d{3}){0,3})")
"""Unix time in s, ms, us or ns."""
_FIRST_LINES = 100
_BOOT = re.compile(r"[0-9a-f]{32}")
_LONGEST = 1 << 20
_PART_BYTES = 1 << 14
"""Of a line that docker's json-file divides (``defaultBufSize`` in moby's copier.go)."""


class Unwrapper:
    """Converts the bytes of a file to the log text in them, part by part; ``note`` says from what.

    ``head`` is the begin of the file.
    """

    def __init__(self, head: bytes) -> None:
        self.note = ""
        self._carry = b""
        self._bom = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        for bom, name in _BOMS:
            if head.startswith(bom):
                self._bom = bom
                if name != "utf-8":
                    self._decoder = codecs.getincrementaldecoder(name)("replace")
                    self.note = f"converted from {name.upper()}"
        first = head.removeprefix(self._bom).split(b"\n", _FIRST_LINES)[:_FIRST_LINES]
        self._mail = MailDecoder()
        self._parts: dict[str, tuple[str, str]] = {}
        self._boot = ""
        self._json = any(_object(line)[2] for line in first)
        if self._json:
            self.note = "lines of JSON, of which the messages are read"

    def convert(self, data: bytes, *, final: bool) -> bytes:
        """Return the text of the next bytes of the file; the rest of it if ``final``."""
        if self._bom:
            data, self._bom = data.removeprefix(self._bom), b""
        if self._decoder is not None:
            data = self._decoder.decode(data, final).encode("utf-8", "replace")
        if not self._json:
            return self._mail.convert(data, final=final)
        data = self._carry + data
        cut = len(data) if final or len(data) > _LONGEST else data.rfind(b"\n") + 1
        self._carry = data[cut:]
        lines = [self._unwrapped(line) for line in data[:cut].splitlines(keepends=True)]
        if final:
            lines += [_line(head, text) for head, text in self._parts.values()]
        return b"".join(lines)

    def _unwrapped(self, line: bytes) -> bytes:
        """Return the message of a line of JSON; none of a part, but of the last one of all."""
        found, head, text = _object(line)
        if not text:
            return line
        if _BOOT.fullmatch(boot := str(found.get("_BOOT_ID"))) and boot != self._boot:
            before, self._boot = self._boot, boot
            return b"-- Boot %b --\n" % boot.encode() * bool(before) + self._unwrapped(line)
        stream = str(found.get("stream"))
        if stream in self._parts:
            head, begun = self._parts.pop(stream)
            text = begun + text
        if len(text) < _LONGEST and _is_part(_text(found.get("log"))):
            self._parts[stream] = head, text
            return b""
        return _line(head, text.rstrip("\n")) + b"\n"


def _is_part(text: str) -> bool:
    """Return whether docker divided a line behind this text."""
    return not text.endswith("\n") and len(text.encode("utf-8", "replace")) >= _PART_BYTES


def _line(head: str, text: str) -> bytes:
    """Return a message with its time and sender before each of its lines."""
    lines = head + text.replace("\n", f"\n{head}")
    try:
        return lines.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, in JSON
        return lines.encode("utf-8", "replace")


def _loaded(line: str | bytes) -> Any:
    """Return what JSON says; fractions as they are written, for a float has not all digits."""
    with suppress(ValueError, RecursionError):
        return json.loads(line, parse_float=str)
    return None


def _object(line: bytes) -> tuple[dict[str, Any], str, str]:
    """Return the JSON object at a line's end, the time and sender of its message, and that."""
    at = line.find(b"{")
    found = _loaded(line[at:]) if at >= 0 else None
    head, text = _message(found)
    if at > 0 and text:
        known = read_head(line[:at].translate(ALIKE)).known
        head = line[:at].decode("utf-8", "surrogateescape") + head
        text = text if known is Known.WHOLLY else ""
    return (found, head, text) if isinstance(found, dict) and text else ({}, "", "")


def _message(found: Any) -> tuple[str, str]:
    """Return the time and sender of a JSON object, and its message; empty if it has none."""
    if not isinstance(found, dict):
        return "", ""
    text = next(filter(None, (_text(found.get(name)) for name in _TEXTS)), "")
    stamp = str(next(filter(None, map(found.get, _TIMES)), ""))
    if unix := _UNIX.fullmatch(stamp):
        stamp = f"{unix[1]}.{unix[2] or 0}"
    if "_PID" in found:
        sender = f"{found.get('SYSLOG_IDENTIFIER', '')}[{found['_PID']}]:"
        stamp += " " + "".join(str(found.get("_HOSTNAME", "")).split()) + " " + sender
    pod = found.get("kubernetes")
    name = pod.get("pod_name") if isinstance(pod, dict) else found.get("CONTAINER_NAME")
    if name:
        stamp += f" [pod/{''.join(str(name).replace(']', '').split())}]"
    head = " ".join(stamp.split()) + " "
    if text.startswith("{") and (inner := _message(_loaded(text)))[1]:
        return head + inner[0], inner[1]  # the time that is nearer to the record counts
    return head, text


def _text(value: Any) -> str:
    """Return a message; journald writes one that is no UTF-8 as a list of bytes."""
    if isinstance(value, list):
        with suppress(ValueError, TypeError):
            return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""
