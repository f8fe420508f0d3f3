"""Parses ``trace-events-all``: name, arguments and format of every trace event.

Source: QEMU's docs/devel/tracing.rst and scripts/tracetool; checked on the whole files of QEMU
7.2, 10.2 and 11.1. Does no I/O, and is quick, since control verbs use it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from qtctl.errors import UsageError
from qtctl.model import Argument, Declaration, Kind

_LINE = re.compile(r"\s*((?:[\w-]+\s+)*)(\w+)\s*\(([^)]*)\)\s*(.*?)\s*\Z", re.DOTALL)
_PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"|(\w+)|(,)|(\S)')
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]+|[0-7]{1,3}|.)", re.DOTALL)
_CONVERSION = re.compile(
    r"%(?:%|[-+ #0]*(\*|\d+)?(?:\.(\*|\d*))?(?:hh|h|ll|l|q|j|z|t|L)?([a-zA-Z]))"
)
_MACRO = re.compile(r"PRI([diouxX])(?:LEAST|FAST)?(8|16|32|64|MAX|PTR)\Z")

_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "e": "\x1b",
}
# As on 64-bit Linux, where glibc's PRIx8 to PRIx32 are a bare "x" (the value is promoted to int).
_LENGTHS = {"8": "", "16": "", "32": "", "64": "l", "MAX": "l", "PTR": "l"}

_NAMED = {
    "bool": (8, False),
    "int8_t": (8, True),
    "uint8_t": (8, False),
    "int16_t": (16, True),
    "uint16_t": (16, False),
    "int32_t": (32, True),
    "uint32_t": (32, False),
    "int64_t": (64, True),
    "uint64_t": (64, False),
    "size_t": (64, False),
    "ssize_t": (64, True),
    "intptr_t": (64, True),
    "uintptr_t": (64, False),
    "intmax_t": (64, True),
    "uintmax_t": (64, False),
    "ptrdiff_t": (64, True),
    "off_t": (64, True),
    "off64_t": (64, True),
    "time_t": (64, True),
    "pid_t": (32, True),
    "uid_t": (32, False),
    "gid_t": (32, False),
    "mode_t": (32, False),
    "hwaddr": (64, False),
    "ram_addr_t": (64, False),
    "target_ulong": (64, False),
    "vaddr": (64, False),
    "gboolean": (32, True),
    "uint": (32, False),
    "ulong": (64, False),
}
_BASE_WORDS = frozenset({"unsigned", "signed", "char", "short", "int", "long"})
_QUALIFIERS = frozenset({"const", "volatile", "restrict", "register", "extern"})
# The types that tracetool traces as text (scripts/tracetool/backend/simple.py).
_STRINGS = ("const char*", "char*", "const char *", "char *")


class Declarations(NamedTuple):
    """The declarations of a whole file.

    ``by_name`` keeps the file's order. ``errors`` holds the lines that are no declaration, each as
    (line number from 1, the line, the reason); a file of a QEMU that qtctl supports has none.
    """

    by_name: Mapping[str, Declaration]
    errors: tuple[tuple[int, str, str], ...] = ()


def parse_declarations(text: str) -> Declarations:
    """Parse a whole ``trace-events-all``; a line that cannot be parsed is collected in ``errors``.

    An event declared twice keeps its first declaration that is not disabled.
    """
    by_name: dict[str, Declaration] = {}
    errors: list[tuple[int, str, str]] = []
    arguments: dict[str, Argument | None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line[0] == "#" or not (stripped := line.strip()) or stripped[0] == "#":
            continue
        try:
            declaration = _parse(stripped, number, arguments)
        except UsageError as error:
            errors.append((number, line, error.message))
            continue
        known = by_name.get(declaration.name)
        if known is None or (known.disabled and not declaration.disabled):
            by_name[declaration.name] = declaration
    return Declarations(by_name, tuple(errors))


def parse_one(line: str, *, number: int = 0) -> Declaration:
    """Parse one declaration; ``number`` is its line in the file.

    Raises:
        UsageError: the line is not a declaration.
    """
    return _parse(line.strip(), number, {})


def declaration_of(text: str, name: str) -> Declaration | None:
    """Find and parse one event's declaration without parsing the whole file; None if absent.

    Raises:
        UsageError: the line that declares it cannot be parsed.
    """
    found: Declaration | None = None
    pattern = re.compile(rf"^[ \t]*(?:[\w-]+[ \t]+)*{re.escape(name)}[ \t]*\(.*$", re.MULTILINE)
    position = 0
    # Search for the name first: matching the pattern at every line takes far longer.
    while (at := text.find(name, position)) >= 0:
        position = at + len(name)
        start = text.rfind("\n", 0, at) + 1
        match = pattern.match(text, start)
        if match is None:
            continue
        found = parse_one(match.group(), number=text.count("\n", 0, start) + 1)
        if not found.disabled:
            break
    return found


def _parse(line: str, number: int, cache: dict[str, Argument | None]) -> Declaration:
    match = _LINE.match(line)
    if match is None:
        raise UsageError(f"not a trace event declaration: {line!r}")
    properties, name, parameters, tail = match.groups()
    text = _format(tail)
    arguments: tuple[Argument, ...] = ()
    if parameters and parameters != "void":
        arguments = _arguments(parameters, text, cache)
    disabled = False
    if properties:
        words = properties.split()
        disabled = "disable" in words
        if "vcpu" in words:
            # tracetool inserts the vCPU before the declared arguments (scripts/tracetool/vcpu.py).
            arguments = (Argument("__cpu", "void *", Kind.POINTER, 64, False), *arguments)
            text = "cpu=%p " + text
    return Declaration(name, arguments, text, disabled, number)


def _format(tail: str) -> str:
    """Concatenate string literals and macros as the C compiler does, and resolve escapes."""
    if not tail:
        return ""
    # Nearly half of all lines: one literal without escapes.
    if tail[0] == tail[-1] == '"' and "\\" not in tail and tail.count('"') == 2:
        return tail[1:-1]
    pieces: list[str] = []
    for match in _PIECE.finditer(tail):
        text, word, comma, other = match.groups()
        if text is not None:
            pieces.append(_ESCAPE.sub(_unescape, text) if "\\" in text else text)
        elif word is not None:
            pieces.append(_macro(word))
        elif comma:
            # "translation", "execution": QEMU prints the second one (`tcg` events).
            pieces.clear()
        else:
            raise UsageError(f"{other!r} is not part of a format: {tail!r}")
    return "".join(pieces)


def _macro(word: str) -> str:
    match = _MACRO.match(word)
    if match is None:
        raise UsageError(f"unknown macro {word} in a format")
    return _LENGTHS[match.group(2)] + match.group(1)


def _unescape(match: re.Match[str]) -> str:
    body = match.group(1)
    if body[0] == "x" and len(body) > 1:
        code = int(body[1:], 16) & 0xFF
    elif body[0] in "01234567":
        code = int(body, 8) & 0xFF
    else:
        return _ESCAPES.get(body, body)
    # One byte of any encoding, as in all text of a guest.
    return bytes((code,)).decode("utf-8", "surrogateescape")


def _arguments(
    parameters: str, text: str, cache: dict[str, Argument | None]
) -> tuple[Argument, ...]:
    arguments: list[Argument] = []
    pieces = parameters.split(",")
    for position, piece in enumerate(pieces):
        try:
            argument = cache[piece]
        except KeyError:
            argument = cache[piece] = _argument(piece)
        if argument is None:
            if len(pieces) == 1 and piece.strip() in ("void", ""):
                return ()
            argument = _unknown(piece, position, text)
        arguments.append(argument)
    return tuple(arguments)


def _split(piece: str) -> tuple[str, str]:
    """Split ``const char *name`` into its C type and its name, as tracetool does."""
    piece = piece.strip()
    if "*" in piece:
        ctype, _, name = piece.rpartition("*")
        return f"{ctype}*", name.strip()
    ctype, _, name = piece.rpartition(" ")
    return ctype.strip(), name


def _argument(piece: str) -> Argument | None:
    """Build an argument from its text; None when the type gives no width and sign."""
    ctype, name = _split(piece)
    if not ctype:
        return None
    if not name.isidentifier():
        raise UsageError(f"argument {piece.strip()!r} has no name")
    if "*" in ctype:
        text = ctype.startswith(_STRINGS) and ctype.count("*") == 1
        return Argument(name, ctype, Kind.STRING if text else Kind.POINTER, 64, False)
    width = _width([word for word in ctype.split() if word not in _QUALIFIERS])
    return None if width is None else Argument(name, ctype, Kind.INTEGER, *width)


def _width(words: list[str]) -> tuple[int, bool] | None:
    if len(words) == 1 and words[0] in _NAMED:
        return _NAMED[words[0]]
    if not words or not _BASE_WORDS.issuperset(words):
        return None
    signed = "unsigned" not in words
    if "char" in words:
        return 8, signed
    if "short" in words:
        return 16, signed
    return (64 if "long" in words else 32), signed


def _unknown(piece: str, position: int, text: str) -> Argument:
    """Build an argument of an unknown type: 64 bits, signed if the format prints it so."""
    ctype, name = _split(piece)
    if not ctype or not name.isidentifier():
        raise UsageError(f"argument {piece.strip()!r} has no type and name")
    letters: list[str] = []
    for match in _CONVERSION.finditer(text):
        stars = (match.group(1), match.group(2)).count("*")
        letters += ["d"] * stars
        if match.group(3):
            letters.append(match.group(3))
    signed = position < len(letters) and letters[position] in "di"
    return Argument(name, ctype, Kind.INTEGER, 64, signed)
