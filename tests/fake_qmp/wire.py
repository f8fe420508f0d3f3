"""QMP's JSON: cutting the input stream, parsing with QEMU's complaints, writing replies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*"|'(?:[^'\\\x00-\x1f]|\\.)*')"""
    r"""|(?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?)"""
    r"""|(?P<keyword>[a-z]+)|(?P<mark>[][{}:,])|(?P<stray>\S))"""
)
_KEYWORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_CLOSED = re.compile(r"[\s\[\]{}:,\"]")


class SyntaxFaultError(Exception):
    """Input that is no JSON; ``at`` counts characters from the start of the message."""

    def __init__(self, words: str, at: int) -> None:
        super().__init__(words)
        self.words = words
        self.at = at


@dataclass(frozen=True, slots=True)
class Message:
    """One piece of input and where it began."""

    text: str
    line: int
    column: int

    def place(self, at: int) -> str:
        """Name a place in it as 11.1 does."""
        before = self.text[:at]
        if "\n" in before:
            return f"{self.line + before.count(chr(10))}:{len(before) - before.rfind(chr(10))}"
        return f"{self.line}:{self.column + at}"


class Cutter:
    """Cuts a stream of bytes into messages, which need no newline between them."""

    def __init__(self) -> None:
        self._text = ""
        self._rest = b""
        self._scanned = 0
        self._braces = self._brackets = 0
        self._quote = ""
        self._escaped = False
        self._line = self._column = 1

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and yield whole messages."""
        self._text += data.decode("utf-8", "replace")
        while (end := self._end()) is not None:
            text, self._text = self._text[:end], self._text[end:]
            self._scanned = self._braces = self._brackets = 0
            bare = text.lstrip()
            message = Message(bare, *self._skip(text[: len(text) - len(bare)]))
            self._skip(bare)
            if bare:
                yield message

    def _skip(self, text: str) -> tuple[int, int]:
        lines = text.count("\n")
        self._line += lines
        self._column = len(text) - text.rfind("\n") if lines else self._column + len(text)
        return self._line, self._column

    def _end(self) -> int | None:
        """Find where the first message ends, going on where the last look stopped."""
        text = self._text
        for at in range(self._scanned, len(text)):
            char = text[at]
            nested = self._braces or self._brackets
            if self._quote:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == self._quote:
                    self._quote = ""
                    if not nested:
                        return at + 1
                continue
            if not nested and text[:at].strip() and _CLOSED.match(char):
                return at
            if char in "\"'":
                self._quote = char
            elif char in "{}":
                self._braces += 1 if char == "{" else -1
            elif char in "[]":
                self._brackets += 1 if char == "[" else -1
            if char in "{}[]" and self._done():
                return at + 1
        self._scanned = len(text)
        return None

    def _done(self) -> bool:
        """Tell whether QEMU would parse now: all closed, or one kind closed too often."""
        return self._braces < 0 or self._brackets < 0 or not (self._braces or self._brackets)


class _Parser:
    def __init__(self, text: str, *, newer: bool) -> None:
        self._newer = newer
        self._tokens: list[tuple[str, str, int]] = []
        at = 0
        while found := _TOKEN.match(text, at):
            kind = found.lastgroup or ""
            value, start = found[kind], found.start(kind)
            if kind == "stray" or "\ufffd" in value:
                raise SyntaxFaultError(f"stray '{value}'", start)
            if kind == "keyword" and value not in _KEYWORDS:
                raise SyntaxFaultError(f"invalid keyword '{value}'", start)
            self._tokens.append((kind, value, start))
            at = found.end()
        self._tokens.append(("end", "", len(text)))
        self._next = 0

    def _take(self) -> tuple[str, str, int]:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _fail(self, old: str, new: str, at: int) -> SyntaxFaultError:
        return SyntaxFaultError(new if self._newer else old, at)

    def value(self) -> object:
        kind, value, at = self._take()
        if kind == "string":
            return self._string(value, at)
        if kind == "number":
            return json.loads(value)
        if kind == "keyword":
            return _KEYWORDS[value]
        if value == "{":
            return self._object()
        if value == "[":
            return self._list()
        raise SyntaxFaultError("expecting value", at)

    @staticmethod
    def _string(quoted: str, at: int) -> str:
        inner = quoted[1:-1]
        if quoted[0] == "'":
            inner = inner.replace('"', '\\"').replace("\\'", "'")
        try:
            text: str = json.loads(f'"{inner}"')
            text.encode()
        except ValueError:
            raise SyntaxFaultError("invalid escape sequence in string", at) from None
        return text

    def _object(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if self._tokens[self._next][1] == "}":
            self._take()
            return found
        while True:
            kind, value, at = self._take()
            if kind != "string":
                old = "key is not a string in object" if kind != "mark" else "expecting value"
                raise self._fail(old, "expecting key", at)
            key = self._string(value, at)
            _, value, at = self._take()
            if value != ":":
                raise self._fail("missing : in object pair", "expecting ':'", at)
            if key in found:
                raise SyntaxFaultError("duplicate key", at)
            found[key] = self.value()
            _, value, at = self._take()
            if value == "}":
                return found
            if value != ",":
                raise self._fail("expected separator in dict", "expected ',' or '}'", at)

    def _list(self) -> list[object]:
        found: list[object] = []
        if self._tokens[self._next][1] == "]":
            self._take()
            return found
        while True:
            found.append(self.value())
            _, value, at = self._take()
            if value == "]":
                return found
            if value != ",":
                raise self._fail("expected separator in list", "expected ',' or ']'", at)


def parse(text: str, *, newer: bool) -> object:
    """Parse one message; ``newer`` picks 11.1's words for what is wrong."""
    return _Parser(text, newer=newer).value()


def dump(reply: dict[str, Any]) -> bytes:
    """Write a reply as QEMU does: ASCII only, upper-case escapes, CRLF."""
    text = json.dumps(reply).replace("\x7f", "\\u007f")
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\u([0-9a-f]{4})", lambda m: f"{m[1]}\\u{m[2].upper()}", text)
    return text.encode("ascii") + b"\r\n"
