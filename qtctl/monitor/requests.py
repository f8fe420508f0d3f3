"""QMP requests of a lender's clients, split and parsed as strictly as QEMU does; QEMU's replies.

Source: ``qobject/json-streamer.c``, ``json-lexer.c`` and ``json-parser.c`` of QEMU 7.2. Messages
need no newline between them, strings may be in single quotes, and each token of invalid JSON gets
an error. QEMU sends such an error without an id, so invalid JSON must never reach it: the lender
could not assign the error to a client.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, NoReturn

LIMIT_BYTES = 16 << 20
"""The longest request; QEMU accepts 64 MiB, but no command needs that much."""
_MAX_NESTING = 1024
_MAX_STRAY_BYTES = 1 << 16

_QUOTES = (0x22, 0x27)
_MARKS = re.compile(rb"""["'{}\[\]]""")
_IN_STRING = {quote: re.compile(rb"[\\\x00-\x1f%c]" % quote) for quote in _QUOTES}
_STRAY = re.compile(rb"""[^\s"'{}\[\],:]+""")
_STRING = re.compile(r""""(?:[^"\\]|\\.)*"|'((?:[^'\\]|\\.)*)'""", re.DOTALL)


class BadRequest(Exception):
    """A request that QEMU would refuse; the text is QEMU's, ``kind`` its error class."""

    def __init__(self, description: str, kind: str = "GenericError") -> None:
        super().__init__(description)
        self.kind = kind


class Splitter:
    """Splits a byte stream into messages; one over a limit is yielded as its error."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._restart()

    def _restart(self) -> None:
        self._at = self._braces = self._brackets = self._quote = 0

    def feed(self, data: bytes) -> Iterator[bytes | BadRequest]:
        """Append bytes and yield whole messages, which may be invalid JSON."""
        self._data += data
        while self._data:
            try:
                end = self._end()
            except BadRequest as bad:
                del self._data[: self._at]
                self._restart()
                yield bad
                continue
            if end is None:
                return
            message = bytes(self._data[:end])
            del self._data[:end]
            self._restart()
            if not message.isspace():
                yield message

    def _end(self) -> int | None:
        """Return the end of the first message, None if incomplete; resume where it stopped."""
        data = self._data
        if self._at == 0:
            self._at = len(data) - len(data.lstrip())
            if self._at == len(data):
                return self._at
            if data[self._at] not in b"\"'{[":
                return self._end_of_stray()
        while self._at < len(data):
            before = self._at
            end = self._leave_string() if self._quote else self._next_mark()
            if end is not None:
                return end
            if self._at > LIMIT_BYTES:
                raise BadRequest("JSON token size limit exceeded")
            if self._at == before:
                break  # at a backslash: the rest of the escape may follow
        return None

    def _end_of_stray(self) -> int | None:
        found = _STRAY.match(self._data, self._at)
        if found is None:
            return self._at + 1
        if found.end() == len(self._data) and len(found[0]) < _MAX_STRAY_BYTES:
            self._at = 0  # the rest of it may follow
            return None
        return found.end()

    def _leave_string(self) -> int | None:
        """Skip to the end of the string; return the message's end where the string ends it."""
        data = self._data
        found = _IN_STRING[self._quote].search(data, self._at)
        if found is None:
            self._at = len(data)
            return None
        mark = data[found.start()]
        if mark == 0x5C:
            self._at = found.start() if found.end() == len(data) else found.end() + 1
            return None
        self._at = found.end()
        if mark != self._quote:
            return self._at  # a control character, which no string may hold
        self._quote = 0
        return None if self._braces or self._brackets else self._at

    def _next_mark(self) -> int | None:
        found = _MARKS.search(self._data, self._at)
        if found is None:
            self._at = len(self._data)
            return None
        self._at = found.end()
        mark = found[0]
        if mark in b"\"'":
            self._quote = mark[0]
            return None
        if mark in b"{}":
            self._braces += 1 if mark == b"{" else -1
        else:
            self._brackets += 1 if mark == b"[" else -1
        if self._braces + self._brackets > _MAX_NESTING:
            raise BadRequest("JSON nesting depth limit exceeded")
        open_still = self._braces or self._brackets
        return None if open_still and min(self._braces, self._brackets) >= 0 else self._at


class Request(NamedTuple):
    """A JSON object that a client sent; ``tag`` is its ``id`` as JSON, None where it has none."""

    members: dict[str, Any]
    tag: bytes | None

    @property
    def sound(self) -> bool:
        """Whether it has the form of a command; QEMU refuses any other at once."""
        known = not self.members.keys() - {"execute", "arguments", "id"}
        return known and isinstance(self.members.get("arguments", {}), dict)

    @property
    def sender(self) -> str | None:
        """The token of the qtctl that sent it; None for other clients."""
        found = _OWN_ID.fullmatch(self.tag or b"")
        return found and found[1].decode()

    def under(self, issued: str) -> bytes:
        """Return it under the lender's id, as one line for QEMU."""
        return json.dumps({**self.members, "id": issued}).encode() + b"\n"


def new_token() -> str:
    """Return what makes the ids of one client or lender unlike all others."""
    return os.urandom(4).hex()


def own_token() -> str:
    """Return the token in the ids of this process's requests, also where a lender forwards them."""
    return _token_of(os.getpid())


@functools.cache
def _token_of(pid: int) -> str:
    """Return a token for a process: one that was forked is another client."""
    return new_token()


def id_of(token: str, number: int) -> str:
    """Return the id of a request of qtctl's, as QEMU sees and traces it."""
    return f"qtctl-{token}-{number}"


_ID = rb'"(qtctl-[0-9a-f]{8}-\d+)"'
_OWN_ID = re.compile(rb'"qtctl-([0-9a-f]{8})-\d+"')


def read_request(message: bytes) -> Request:
    """Parse one message.

    Raises:
        BadRequest: QEMU would send an error without an id for it.
    """
    try:
        text = message.decode()
        value = _read(text)
    except UnicodeDecodeError:
        raise BadRequest("JSON parse error, invalid UTF-8 sequence in string") from None
    except RecursionError:
        raise BadRequest("JSON nesting depth limit exceeded") from None
    except ValueError as error:
        raise BadRequest(f"JSON parse error, {getattr(error, 'msg', error)}") from None
    plain = text.isascii() and "\\u" not in text
    if not plain and _bad_character().search(json.dumps(value, ensure_ascii=False)):
        raise BadRequest("JSON parse error, invalid escape sequence in string")
    if not isinstance(value, dict):
        raise BadRequest("QMP input must be a JSON object")
    return Request(value, json.dumps(value["id"]).encode() if "id" in value else None)


@cache
def _bad_character() -> re.Pattern[str]:
    last = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    return re.compile(f"[\ud800-\udfff\ufdd0-\ufdef{last}]")


def _read(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except ValueError:
        if "'" not in text:
            raise
    return _DECODER.decode(_STRING.sub(_in_double_quotes, text))


def _in_double_quotes(string: re.Match[str]) -> str:
    inner = string[1]
    if inner is None:
        return string[0]
    return '"' + inner.replace('"', '\\"').replace("\\'", "'") + '"'


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("number out of range")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"invalid keyword '{word}'")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_constant=_refuse_constant
)
_BEFORE = re.compile(rb'\{"id": %s, ' % _ID)
_BEHIND = re.compile(rb', "id": %s\}\s*\Z' % _ID)
_BEHIND_BYTES = len(', "id": ""}\r\n') + len(id_of(new_token(), 1 << 63))


class Reply(NamedTuple):
    """QEMU's reply to the request ``issued``; ``head`` and ``tail`` are the bytes around that id.

    A reply may have a megabyte: it is not parsed where the id comes first or last, as QEMU puts it.
    """

    issued: str
    head: bytes
    tail: bytes

    @property
    def returned(self) -> bool:
        """Whether the command succeeded."""
        return self.head.startswith(b'{"return"') or self.tail.startswith(b'"return"')

    def to(self, tag: bytes | None) -> bytes:
        """Return it under the id that the client gave, if any."""
        if tag is None:
            return self.head + self.tail
        opened = self.head == b"{"
        own = b'"id": %s, ' % tag if opened else b', "id": %s' % tag
        return self.head + own + self.tail


def read_reply(line: bytes) -> Reply | dict[str, Any]:
    """Parse a line of QEMU's: a reply to a forwarded request, or any other object.

    Raises:
        ValueError: the line is no JSON object.
        RecursionError: it is nested too deeply.
    """
    if found := _BEFORE.match(line):
        return Reply(found[1].decode(), b"{", line[found.end() :])
    if found := _BEHIND.search(line, max(0, len(line) - _BEHIND_BYTES)):
        return Reply(found[1].decode(), line[: found.start()], b"}\r\n")
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    tag = value.get("id")
    if not isinstance(tag, str) or not _OWN_ID.fullmatch(json.dumps(tag).encode()):
        return value
    del value["id"]
    return Reply(tag, json.dumps(value).encode()[:-1], b"}\r\n")
