"""Parses ``trace-events-all``: name, arguments and format of every trace event.

Source: QEMU's docs/devel/tracing.rst and scripts/tracetool (``__init__.py``, ``vcpu.py``,
``transform.py``); checked on the whole files of QEMU 7.2, 10.2 and 11.1, and on the source of the
releases from 0.14 to 9.0. Does no I/O, and is quick, since control verbs use it too.
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
_MACRO = re.compile(r"(?:HWADDR_|VADDR_)?PRI([diouxX])(?:LEAST|FAST)?(8|16|32|64|MAX|PTR|\Z)\Z")
_WHOLE_MACROS = {"TARGET_FMT_plx": "%016lx"}
"""Macros of QEMU's ``exec/hwaddr.h`` that are a whole conversion (2.12 to 4.1 use it)."""

_ESCAPES = dict(zip("ntrabfve", "\n\t\r\a\b\f\v\x1b", strict=True))
# As on 64-bit Linux, where glibc's PRIx8 to PRIx32 are a bare "x" (the value is promoted to int).
_LENGTHS = {"8": "", "16": "", "32": "", "64": "l", "MAX": "l", "PTR": "l", "": "l"}

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
# How the types of TCG are traced when the code runs; while it is translated they are left out.
_TCG = {"TCGv": "uint64_t", "TCGv_i32": "uint32_t", "TCGv_i64": "uint64_t", "TCGv_ptr": "void *"}
_TCG_SUFFIXES = ("_trans", "_exec")
_CPU = Argument("__cpu", "void *", Kind.POINTER, 64, False)


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
            declared = parse_line(stripped, number=number, cache=arguments)
        except UsageError as error:
            errors.append((number, line, error.message))
            continue
        for one in declared:
            known = by_name.get(one.name)
            if known is None or (known.disabled and not one.disabled):
                by_name[one.name] = one
    return Declarations(by_name, tuple(errors))


def declaration_of(text: str, name: str) -> Declaration | None:
    """Find and parse one event's declaration without parsing the whole file; None if absent.

    Raises:
        UsageError: the line that declares it cannot be parsed.
    """
    found: Declaration | None = None
    stem = next((name[: -len(end)] for end in _TCG_SUFFIXES if name.endswith(end)), name)
    pattern = re.compile(
        rf"^[ \t]*(?:[\w-]+[ \t]+)*(?:{re.escape(name)}|{re.escape(stem)})[ \t]*\(.*$", re.MULTILINE
    )
    position = 0
    # Search for the name first: matching the pattern at every line takes far longer.
    while (at := text.find(stem, position)) >= 0:
        position = at + len(stem)
        start = text.rfind("\n", 0, at) + 1
        match = pattern.match(text, start)
        if match is None:
            continue
        declared = parse_line(match.group(), number=text.count("\n", 0, start) + 1)
        found = next((one for one in declared if one.name == name), found)
        if found is not None and not found.disabled:
            break
    return found


def parse_line(
    line: str, *, number: int = 0, cache: dict[str, Argument] | None = None
) -> list[Declaration]:
    """Parse the line of one event, or of the two that the property ``tcg`` makes of it.

    ``number`` is its line in the file, ``cache`` holds known arguments.

    Raises:
        UsageError: the line is not a declaration.
    """
    line = line.strip()
    match = _LINE.match(line)
    if match is None:
        raise UsageError(f"not a trace event declaration: {line!r}")
    properties, name, parameters, tail = match.groups()
    texts = _formats(tail)
    known = {} if cache is None else cache
    pieces = [] if parameters.strip() in ("", "void") else parameters.split(",")
    for piece in pieces:
        if piece not in known:
            known[piece] = _argument(piece)
    arguments = [known[piece] for piece in pieces]
    if not properties:
        return [_declared(name, arguments, texts[-1], False, number)]
    words = properties.split()
    disabled = "disable" in words
    if "vcpu" in words:
        # tracetool inserts the vCPU before the declared arguments.
        arguments.insert(0, _CPU)
        texts = [f"cpu=%p {text}" for text in texts]
    if "tcg" not in words:
        return [_declared(name, arguments, texts[-1], disabled, number)]
    translated = [one for one in arguments if not one.ctype.startswith("TCGv")]
    executed = [
        _argument(f"{_TCG[one.ctype]} {one.name}") if one.ctype in _TCG else one
        for one in arguments
    ]
    return [
        _declared(name + suffix, chosen, text, disabled, number)
        for suffix, chosen, text in zip(
            _TCG_SUFFIXES, (translated, executed), (texts[0], texts[-1]), strict=True
        )
    ]


def _declared(
    name: str, arguments: list[Argument], text: str, disabled: bool, number: int
) -> Declaration:
    """Return a declaration; an argument of an unknown type is as its format prints it."""
    typed = [
        one if one.bits else one._replace(bits=64, signed=_printed_signed(text, position))
        for position, one in enumerate(arguments)
    ]
    return Declaration(name, tuple(typed), text, disabled, number)


def _formats(tail: str) -> list[str]:
    """Return the formats after the arguments: one, or the two of ``tcg``.

    String literals and macros are concatenated as the C compiler does, and escapes resolved. An
    unknown macro becomes ``%<NAME>``, which is no conversion: its records are read raw.
    """
    if not tail:
        return [""]
    # Nearly half of all lines: one literal without escapes.
    if tail[0] == tail[-1] == '"' and "\\" not in tail and tail.count('"') == 2:
        return [tail[1:-1]]
    texts: list[list[str]] = [[]]
    for match in _PIECE.finditer(tail):
        text, word, comma, other = match.groups()
        if text is not None:
            texts[-1].append(_ESCAPE.sub(_unescape, text) if "\\" in text else text)
        elif word is not None:
            texts[-1].append(_macro(word, "".join(texts[-1])))
        elif comma:
            texts.append([])
        else:
            raise UsageError(f"{other!r} is not part of a format: {tail!r}")
    return ["".join(pieces) for pieces in texts]


def _macro(word: str, before: str) -> str:
    """Return what a macro stands for, behind the part ``before`` of the format."""
    if match := _MACRO.match(word):
        return _LENGTHS[match.group(2)] + match.group(1)
    begun = "%" in CONVERSION.sub("", before)
    return _WHOLE_MACROS.get(word, f"<{word}>" if begun else f"%<{word}>")


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
