"""QEMU's events files: one pattern a line, a leading ``-`` excludes, ``#`` starts a comment.

Format of ``-trace events=FILE`` (``trace/control.c``, QEMU 7.2 to 11.1). Accepted as well: a byte
order mark, CRLF, blanks around a pattern and comments after one. ``@NAME`` (a named set,
``events/sets.py``) is an extension of qtctl's.
"""

from __future__ import annotations

from pathlib import Path

from qtctl.errors import UsageError
from qtctl.events.patterns import Rule
from qtctl.folders import read_text


def parse_events(text: str) -> list[Rule]:
    """Parse the rules of an events file, in order: (included or excluded, pattern).

    Raises:
        UsageError: a line is not one pattern; the message gives its number.
    """
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        pattern = line.split("#", 1)[0].strip()
        if not pattern:
            continue
        include = not pattern.startswith("-")
        pattern = pattern.removeprefix("-").strip()
        if not pattern or not pattern.isprintable() or len(pattern.split()) > 1:
            raise UsageError(f"line {number} is not one pattern: {line.strip()!r}")
        rules.append((include, pattern))
    return rules


def read_events(path: Path) -> list[Rule]:
    """Read an events file.

    Raises:
        UsageError: the file cannot be read, is not text, or one of its lines is not one pattern.
    """
    text = read_text(path)
    try:
        return parse_events(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}") from error
