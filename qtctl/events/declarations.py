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
CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0']*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?"
    r"(?P<length>hh|h|ll|l|q|j|z|t|L)?(?P<letter>[a-zA-Z%])"
)
"""A conversion of printf, or ``%%``."""
_MACRO = re.compile(r"PRI([diouxX])(?:LEAST|FAST)?(8|16|32|64|MAX|PTR)\Z")

_ESCAPES = dict(zip("ntrabfve", "\n\t\r\a\b\f\v\x1b", strict=True))
# As on 64-bit Linux, where glibc's PRIx8 to PRIx32 are a bare "x" (the value is promoted to int).
_LENGTHS = {"8": "", "16": "", "32": "", "64": "l", "MAX": "l", "PTR": "l"}

_TYPES = {
    (8, False): "bool uint8_t",
    (8, True): "int8_t",
    (16, False): "uint16_t",
    (16, True): "int16_t",
    (32, False): "uint32_t uint uid_t gid_t mode_t",
    (32, True): "int32_t pid_t gboolean",
    (64, False): "uint64_t ulong size_t uintptr_t uintmax_t hwaddr ram_addr_t target_ulong vaddr",
    (64, True): "int64_t ssize_t intptr_t intmax_t ptrdiff_t off_t off64_t time_t",
}
_NAMED = {name: width for width, names in _TYPES.items() for name in names.split()}
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
    arguments: dict[str, Argument] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line[0] == "#" or not (stripped := line.strip()) or stripped[0] == "#":
            continue
        try:
            declaration = parse_one(stripped, number=number, cache=arguments)
        except UsageError as error:
            errors.append((number, line, error.message))
            continue
        known = by_name.get(declaration.name)
        if known is None or (known.disabled and not declaration.disabled):
            by_name[declaration.name] = declaration
    return Declarations(by_name, tuple(errors))


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


def parse_one(
    line: str, *, number: int = 0, cache: dict[str, Argument] | None = None
) -> Declaration:
    """Parse one declaration; ``number`` is its line in the file, ``cache`` holds known arguments.

    Raises:
        UsageError: the line is not a declaration.
    """
    line = line.strip()
    match = _LINE.match(line)
    if match is None:
        raise UsageError(f"not a trace event declaration: {line!r}")
    properties, name, parameters, tail = match.groups()
    text = _format(tail)
    arguments: list[Argument] = []
    known = {} if cache is None else cache
    pieces = [] if parameters.strip() in ("", "void") else parameters.split(",")
    for position, piece in enumerate(pieces):
        if piece not in known:
            known[piece] = _argument(piece)
        argument = known[piece]
        if not argument.bits:
            argument = argument._replace(bits=64, signed=_printed_signed(text, position))
        arguments.append(argument)
    disabled = False
    if properties:
        words = properties.split()
        disabled = "disable" in words
        if "vcpu" in words:
            # tracetool inserts the vCPU before the declared arguments (scripts/tracetool/vcpu.py).
            arguments.insert(0, Argument("__cpu", "void *", Kind.POINTER, 64, False))
            text = "cpu=%p " + text
    return Declaration(name, tuple(arguments), text, disabled, number)


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
            macro = _MACRO.match(word)
            if macro is None:
                raise UsageError(f"unknown macro {word} in a format")
            pieces.append(_LENGTHS[macro.group(2)] + macro.group(1))
        elif comma:
            # "translation", "execution": QEMU prints the second one (`tcg` events).
            pieces.clear()
        else:
            raise UsageError(f"{other!r} is not part of a format: {tail!r}")
    return "".join(pieces)


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


def _argument(piece: str) -> Argument:
    """Build an argument from its text; 0 bits where the type gives no width and sign."""
    piece = piece.strip()
    # Split ``const char *name`` as tracetool does.
    before, star, name = piece.rpartition("*" if "*" in piece else " ")
    ctype = f"{before}*" if star == "*" else before.strip()
    name = name.strip()
    if not ctype:
        raise UsageError(f"argument {piece!r} has no type and name")
    if not name.isidentifier():
        raise UsageError(f"argument {piece!r} has no name")
    if "*" in ctype:
        text = ctype.startswith(_STRINGS) and ctype.count("*") == 1
        return Argument(name, ctype, Kind.STRING if text else Kind.POINTER, 64, False)
    width = _width([word for word in ctype.split() if word not in _QUALIFIERS]) or (0, False)
    return Argument(name, ctype, Kind.INTEGER, *width)


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


def _printed_signed(text: str, position: int) -> bool:
    """Return whether a format prints an argument as a signed number."""
    letters: list[str] = []
    for match in CONVERSION.finditer(text):
        letters += ["d"] * (match["width"], match["precision"]).count("*")
        if match["letter"] != "%":
            letters.append(match["letter"])
    return position < len(letters) and letters[position] in "di"
