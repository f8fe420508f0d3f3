"""Parse the metadata of a CTF 1.8 trace.

The language is TSDL (The Common Trace Format 1.8.3, sections 7 and C), as LTTng 2.13 prints it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from qtctl.backends.ust.ctf import (
    DEEPEST,
    CtfArray,
    CtfFields,
    CtfNumber,
    CtfRanges,
    CtfStruct,
    CtfText,
    CtfType,
    CtfVariant,
    EventClass,
    StreamClass,
    TraceClock,
    TraceMetadata,
)

_TOKEN = re.compile(
    r'\s+|//[^\n]*|/\*.*?\*/|((?:integer|floating_point)\s*\{[^{}]*\}|"(?:[^"\\]|\\.)*"|\.\.\.|:=|'
    r"-?\d\w*|\w+|.)",
    re.DOTALL,
)
_SETTING = re.compile(r"([\w.]+)\s*=\s*([^;]+?)\s*;")
_BASES = {"decimal": 10, "hexadecimal": 16, "hex": 16, "octal": 8, "binary": 2}
_BASES |= {"dec": 10, "d": 10, "i": 10, "u": 10, "x": 16, "X": 16, "p": 16}
_BASES |= {"oct": 8, "o": 8, "b": 2}
_ESCAPES = {"n": "\n", "t": "\t"}


def parse_tsdl(text: str) -> TraceMetadata:
    """Parse metadata.

    Raises:
        ValueError: it is malformed; the message has the place.
    """
    return _TsdlParser(text).trace()


class _TsdlParser:
    """Reads tokens one after the other; types that have a name are kept in ``_named``."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [token for token in _TOKEN.findall(text) if token]
        self._at = 0
        self._depth = 0
        self._named: dict[str, CtfType] = {}
        self._numbers: dict[str, CtfNumber] = {}
        self._big = any(
            re.search(r"\bbyte_order\s*=\s*(be|network)\b", part)
            for part in re.findall(r"\btrace\s*\{(.*?)\}", text, re.DOTALL)
        )

    def trace(self) -> TraceMetadata:
        """Parse all."""
        facts: dict[str, str] = {}
        header: CtfType | None = None
        streams: dict[int, StreamClass] = {}
        events: list[EventClass] = []
        clocks: dict[str, TraceClock] = {}
        environment: dict[str, str | int] = {}
        while self._at < len(self._tokens):
            match self._next():
                case "trace":
                    facts, types = self._block()
                    header = types.get("packet.header")
                case "env":
                    found, _ = self._block()
                    environment |= {name: _value(value) for name, value in found.items()}
                case "clock":
                    found, _ = self._block()
                    clocks[_plain(found.get("name", ""))] = _clock(found)
                case "stream":
                    found, types = self._block()
                    streams[_int(found.get("id", "0"))] = StreamClass(
                        types.get("packet.context"),
                        types.get("event.header"),
                        types.get("event.context"),
                    )
                case "event":
                    events.append(self._event())
                case "callsite":
                    self._block()
                case "typealias":
                    self._alias()
                case "typedef":
                    self._member(self._named.__setitem__)
                case ";":
                    pass
                case _:
                    self._at -= 1
                    self._type()
        uuid = bytes.fromhex(_plain(facts.get("uuid", "")).replace("-", ""))
        return TraceMetadata(uuid, self._big, header, streams, tuple(events), clocks, environment)

    def _event(self) -> EventClass:
        found, types = self._block()
        fields = types.get("fields", CtfStruct(()))
        if not isinstance(fields, CtfStruct):
            raise self._wrong("an event whose fields are no struct")
        stream, number = _int(found.get("stream_id", "0")), _int(found.get("id", "0"))
        return EventClass(
            _plain(found.get("name", "")), number, stream, types.get("context"), fields
        )

    def _block(self) -> tuple[dict[str, str], dict[str, CtfType]]:
        """Parse ``{ name = value; name := type; ... }``."""
        values: dict[str, str] = {}
        types: dict[str, CtfType] = {}
        self._expect("{")
        while (token := self._next()) != "}":
            if token == "typealias":
                self._alias()
                continue
            name = [token]
            while (token := self._next()) not in ("=", ":="):
                if len(name) > DEEPEST or token in ("{", "}", ";"):
                    raise self._wrong("neither a value nor a type")
                name.append(token)
            key = "".join(name)
            if token == ":=":
                types[key] = self._type()
                self._expect(";")
                continue
            value = []
            while (token := self._next()) != ";":
                value.append(token)
            values[key] = "".join(value)
        if self._peek() == ";":
            self._next()
        return values, types

    def _alias(self) -> None:
        """Parse ``typealias TYPE := NAME;``, whose name may be several words."""
        kind = self._type()
        self._expect(":=")
        self._named[self._words()] = kind
        self._expect(";")

    def _words(self) -> str:
        words = []
        while self._peek() not in (";", ":=", "{", "<", "["):
            words.append(self._next())
        return " ".join(words)

    def _type(self) -> CtfType:
        """Parse a type, but for what follows the name that it is given."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong("types nested too deep")
        token = self._next()
        kind: CtfType
        if token.endswith("}") and token[0] in "if":
            kind = self._number(token)
        elif token == "string":
            if self._peek() == "{":
                self._block()
            kind = CtfText()
        elif token in ("struct", "variant", "enum"):
            kind = self._compound(token)
        else:
            kind = self._known(token)
        self._depth -= 1
        return kind

    def _known(self, first: str) -> CtfType:
        """Return a type by its name, of as many words as are one."""
        name = first
        while name not in self._named and self._peek() not in (";", "{", "[", ":="):
            name = f"{name} {self._next()}"
        while f"{name} {self._peek()}" in self._named:
            name = f"{name} {self._next()}"
        if name not in self._named:
            raise self._wrong(f"the type {name!r} is not known")
        return self._named[name]

    def _compound(self, what: str) -> CtfType:
        """Parse a struct, variant or enumeration, which may have a name, or be known by it."""
        name = ""
        if self._peek() not in ("{", "<", ":"):
            name = f"{what} {self._next()}"
        tag = ""
        if what == "variant" and self._peek() == "<":
            self._next()
            while (token := self._next()) != ">":
                tag += token
            tag = tag.rpartition(".")[2]
        base: CtfType = CtfNumber(32, align=8, big=self._big)
        if what == "enum" and self._peek() == ":":
            self._next()
            base = self._type()
        elif what == "enum":
            base = self._named.get("int", base)
        kind: CtfType
        if self._peek() != "{":
            if name not in self._named:
                raise self._wrong(f"the type {name!r} is not known")
            kind = self._named[name]
            return kind._replace(tag=tag) if isinstance(kind, CtfVariant) and tag else kind
        if what == "enum":
            if not isinstance(base, CtfNumber):
                raise self._wrong("an enumeration of no numbers")
            kind = base._replace(ranges=self._ranges())
        elif what == "variant":
            kind = CtfVariant(tag, self._fields())
        else:
            kind = CtfStruct(self._fields(), self._least_align())
        if name:
            self._named[name] = kind
        return kind

    def _least_align(self) -> int:
        if self._peek() != "align":
            return 1
        self._next()
        self._expect("(")
        align = _align(self._next())
        self._expect(")")
        return align

    def _fields(self) -> CtfFields:
        """Parse ``{ TYPE NAME; ... }``."""
        found: list[tuple[str, CtfType]] = []
        self._expect("{")
        while self._peek() != "}":
            if self._peek() == "typealias":
                self._next()
                self._alias()
            else:
                self._member(lambda name, kind: found.append((name, kind)))
        self._next()
        return tuple(found)

    def _member(self, add: Callable[[str, CtfType], object]) -> None:
        """Parse ``TYPE NAME[LENGTH]...;``; several names, or none, are possible."""
        kind = self._type()
        while self._peek() != ";":
            name = self._next()
            lengths: list[int | str] = []
            while self._peek() == "[":
                self._next()
                length = ""
                while (token := self._next()) != "]":
                    length += token
                lengths.append(
                    int(length, 0) if length[:1].isdigit() else length.rpartition(".")[2]
                )
            made = kind
            for one in reversed(lengths):
                made = CtfArray(made, one)
            add(name, made)
            if self._peek() == ",":
                self._next()
        self._next()

    def _ranges(self) -> CtfRanges:
        """Parse ``{ LABEL = FIRST ... LAST, ... }``."""
        found = []
        self._expect("{")
        follows = 0
        while (label := self._next()) != "}":
            first = last = follows
            if self._peek() == "=":
                self._next()
                first = last = _int(self._next())
                if self._peek() == "...":
                    self._next()
                    last = _int(self._next())
            found.append((_plain(label), first, last))
            follows = last + 1
            if self._peek() == ",":
                self._next()
        return tuple(found)

    def _number(self, text: str) -> CtfNumber:
        """Parse ``integer { ... }`` or ``floating_point { ... }``, each text once."""
        if text not in self._numbers:
            found = dict(_SETTING.findall(text[text.index("{") + 1 :]))
            real = text.startswith("f")
            if real:
                bits = _int(found.get("exp_dig", "8")) + _int(found.get("mant_dig", "24"))
            else:
                bits = _int(found["size"])
            if not 0 < bits <= 64:
                raise self._wrong(f"a number of {bits} bits")
            align = _align(found.get("align", "1" if bits % 8 else "8"))
            order = found.get("byte_order", "native")
            big = self._big if order == "native" else order in ("be", "network")
            base = found.get("base", "10")
            clock = found.get("map", "").removeprefix("clock.").removesuffix(".value")
            self._numbers[text] = CtfNumber(
                bits,
                found.get("signed", "0") in ("1", "true", "TRUE"),
                align,
                big,
                _BASES[base] if base in _BASES else _int(base),
                clock,
                real=real,
            )
        return self._numbers[text]

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise self._wrong("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        if (found := self._next()) != token:
            raise self._wrong(f"{found!r} in place of {token!r}")

    def _wrong(self, what: str) -> ValueError:
        near = " ".join(self._tokens[max(0, self._at - 8) : self._at])
        return ValueError(f"{what}, after {near[-100:]!r}")


def _int(text: str) -> int:
    return int(text.rstrip("uUlL"), 0)


def _align(text: str) -> int:
    align = _int(text)
    if align < 1 or align > 4096 or align & (align - 1):
        raise ValueError(f"an alignment of {align} bits")
    return align


def _plain(text: str) -> str:
    """Return a text without its quotes and escapes."""
    if not text.startswith('"'):
        return text
    unescaped: str = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])
    return unescaped


def _value(text: str) -> str | int:
    return _plain(text) if text.startswith('"') else _int(text)


def _clock(found: dict[str, str]) -> TraceClock:
    return TraceClock.checked(
        _int(found.get("freq", "1000000000")),
        _int(found.get("offset_s", "0")),
        _int(found.get("offset", "0")),
    )
