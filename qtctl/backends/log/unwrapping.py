"""Log text inside other text: UTF-16 or a BOM (PowerShell), mails, and JSON lines of collectors.

JSON: docker's json-file (``log``, ``time``), kubevirt's virt-launcher (``msg``, ``timestamp``) and
``journalctl -o json`` (``MESSAGE``, ``__REALTIME_TIMESTAMP``, systemd.journal-fields(7)); with the
pod or container that fluentd and podman name.
"""

from __future__ import annotations

import codecs
import json
import re
from contextlib import suppress
from typing import Any

from qtctl.backends.log.divided import MailDecoder

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TEXTS = ("log", "msg", "MESSAGE")
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
        first = head.removeprefix(self._bom).lstrip()
        self._mail = MailDecoder()
        self._parts: dict[str, tuple[str, str]] = {}
        self._boot = ""
        self._json = first.startswith(b"{") and _message(_loaded(first.split(b"\n", 1)[0]))[1] != ""
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
        found = _loaded(line) if line.startswith(b"{") else None
        head, text = _message(found)
        if not isinstance(found, dict) or not text:
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


def _loaded(line: bytes) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _message(found: Any) -> tuple[str, str]:
    """Return the time and sender of a JSON object, and its message; empty if it has none."""
    if not isinstance(found, dict):
        return "", ""
    text = next(filter(None, (_text(found.get(name)) for name in _TEXTS)), "")
    stamp = str(found.get("time") or found.get("timestamp") or "")
    micros = str(found.get("__REALTIME_TIMESTAMP", ""))
    if micros.isdigit() and len(micros) > 6:
        stamp = f"{micros[:-6]}.{micros[-6:]}"
    if "_PID" in found:
        sender = f"{found.get('SYSLOG_IDENTIFIER', '')}[{found['_PID']}]:"
        stamp += " " + "".join(str(found.get("_HOSTNAME", "")).split()) + " " + sender
    pod = found.get("kubernetes")
    name = pod.get("pod_name") if isinstance(pod, dict) else found.get("CONTAINER_NAME")
    if name:
        stamp += f" [pod/{''.join(str(name).replace(']', '').split())}]"
    return " ".join(stamp.split()) + " ", text


def _text(value: Any) -> str:
    """Return a message; journald writes one that is no UTF-8 as a list of bytes."""
    if isinstance(value, list):
        with suppress(ValueError, TypeError):
            return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""
