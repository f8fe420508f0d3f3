"""Log text inside other text: UTF-16 or a BOM (PowerShell), and JSON lines of collectors.

JSON: docker's json-file (``log``, ``time``), kubevirt's virt-launcher (``msg``, ``timestamp``) and
``journalctl -o json`` (``MESSAGE``, ``__REALTIME_TIMESTAMP``, systemd.journal-fields(7)).
"""

from __future__ import annotations

import codecs
import json
from contextlib import suppress
from typing import Any

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_TEXTS = ("log", "msg", "MESSAGE")
_LONGEST = 1 << 20


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
        self._json = first.startswith(b"{") and _message(_loaded(first.split(b"\n", 1)[0])) != ""
        if self._json:
            self.note = "lines of JSON, of which the messages are read"

    def convert(self, data: bytes, *, final: bool) -> bytes:
        """Return the text of the next bytes of the file; the rest of it if ``final``."""
        if self._bom:
            data, self._bom = data.removeprefix(self._bom), b""
        if self._decoder is not None:
            data = self._decoder.decode(data, final).encode("utf-8", "replace")
        if not self._json:
            return data
        data = self._carry + data
        cut = len(data) if final or len(data) > _LONGEST else data.rfind(b"\n") + 1
        self._carry = data[cut:]
        return b"".join(map(_unwrapped, data[:cut].splitlines(keepends=True)))


def _loaded(line: bytes) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _message(found: Any) -> str:
    """Return the message of a JSON object, behind its time and sender; empty if it has none."""
    if not isinstance(found, dict):
        return ""
    text = next((found[name] for name in _TEXTS if isinstance(found.get(name), str)), "")
    stamp = str(found.get("time") or found.get("timestamp") or "")
    micros = str(found.get("__REALTIME_TIMESTAMP", ""))
    if micros.isdigit() and len(micros) > 6:
        stamp = f"{micros[:-6]}.{micros[-6:]}"
    sender = f"{found.get('SYSLOG_IDENTIFIER', '')}[{found.get('_PID', '')}]: "
    if len(sender) > len("[]: ") and "_PID" in found:
        stamp += f" host {sender.rstrip()}"
    return f"{stamp} {text}" if text else ""


def _unwrapped(line: bytes) -> bytes:
    message = _message(_loaded(line)) if line.startswith(b"{") else ""
    if not message:
        return line
    return message.rstrip("\r\n").encode("utf-8", "replace") + b"\n"
