"""Messages of a monitor from its lines: with ``pretty=on`` a message has many."""

from __future__ import annotations

_LIMIT_BYTES = 16 << 20


class MessageLines:
    """Joins the lines of each pretty-printed message; other lines are messages already.

    QEMU begins a pretty-printed message with a line ``{``, indents what follows and ends it with a
    line ``}`` (``qobject/qjson.c``; 7.2). A string never holds a raw newline.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> bytes | None:
        """Add a line; return the message that it ends as one line, None where more lines follow.

        A message beyond 16 MiB is returned as far as it came, which is no JSON.
        """
        text = line.rstrip(b"\r\n")
        if not self._parts and text != b"{":
            return line
        self._parts.append(text.lstrip())
        self._size += len(text)
        if text != b"}" and self._size <= _LIMIT_BYTES:
            return None
        message = b" ".join(self._parts) + b"\r\n"
        self._parts, self._size = [], 0
        return message
