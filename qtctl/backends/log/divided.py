"""Lines that another program divided: parts of collectors, soft line ends and base64 of mail.

Sources: CRI's log format (kubernetes, ``P`` and ``F``), GitLab Runner's timestamped log (``+``
appends to the line before), RFC 2045 (quoted-printable, base64).
"""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Callable

_PARTS = (
    # What must be in the bytes (a single rare byte is found quickest), a part with the begin of the
    # next one, and what is kept of both.
    (
        (b"P", b" P "),
        re.compile(rb"(?m)^(\S+ (std(?:out|err)) )P ([^\n]*)\n\S+ \2 ([PF]) "),
        rb"\1\4 \3",
    ),
    ((b"+", b"O+"), re.compile(rb"(?m)^(\S+Z (\d\dO)[ +][^\n]*)\n\S+Z \2\+"), rb"\1"),
    ((b"+", b"E+"), re.compile(rb"(?m)^(\S+Z (\d\dE)[ +][^\n]*)\n\S+Z \2\+"), rb"\1"),
)
_BEGUN = re.compile(rb"\S+ std(?:out|err) P ")
_ENCODING = re.compile(rb"content-transfer-encoding:[ \t]*([\w-]+)", re.IGNORECASE)
_MARK = b"ransfer-"
_BOUNDARY = re.compile(rb"boundary=\"?([^\";\s]+)")
_LONGEST = 1 << 20


def join_parts(data: bytes) -> bytes:
    """Join the parts of lines that a collector divided and that follow one another."""
    for needed, pattern, kept in _PARTS:
        count = int(all(text in data for text in needed))
        while count:
            data, count = pattern.subn(kept, data)
    return data


def is_part(line: bytes) -> bool:
    """Return whether the rest of a line is to come in another one."""
    return _BEGUN.match(line) is not None


def _quoted_printable(line: bytes) -> bytes:
    return quopri.decodestring(line)


def _base64(line: bytes) -> bytes:
    try:
        return binascii.a2b_base64(line)
    except ValueError:
        return line


_DECODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"quoted-printable": _quoted_printable,
    b"base64": _base64,
}


class MailDecoder:
    """Decodes the bodies of mails in a text, by the header of each; other text stays."""

    def __init__(self) -> None:
        self._carry = b""
        self._next: Callable[[bytes], bytes] | None = None
        self._decode: Callable[[bytes], bytes] | None = None
        self._boundaries: set[bytes] = set()

    def convert(self, data: bytes, *, final: bool) -> bytes:
        """Return the next bytes, decoded; the rest of them if ``final``."""
        data = self._carry + data
        cut = len(data) if final or len(data) > _LONGEST else data.rfind(b"\n") + 1
        self._carry = data[cut:]
        data = data[:cut]
        if self._next is None and self._decode is None and _MARK not in data:
            return data
        return b"".join(map(self._line, data.splitlines(keepends=True)))

    def _line(self, line: bytes) -> bytes:
        if header := _ENCODING.match(line):
            self._next, self._decode = _DECODERS.get(header[1].lower()), None
        elif self._next is not None and not line.strip():
            self._next, self._decode = None, self._next
        elif line.startswith(b"From ") or line.strip().removesuffix(b"--") in self._boundaries:
            self._next = self._decode = None
        elif self._decode is not None:
            return self._decode(line)
        elif boundary := _BOUNDARY.search(line):
            self._boundaries.add(b"--" + boundary[1])
        return line
