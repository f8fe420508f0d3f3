"""Fit coloured lines to the columns of a terminal: crop, scroll sideways, wrap.

A line may contain SGR sequences, which take no column. East Asian wide characters take two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LEAST_ROOM = 30
RESET = "\x1b[0m"
PARTS = re.compile("(\x1b\\[[0-9;]*m)")


def plain(line: str) -> str:
    """Return a line without its colours."""
    return PARTS.sub("", line) if "\x1b" in line else line


def columns_of(char: str) -> int:
    """Return how many columns a character takes."""
    if char.isascii() or char == "…":
        return 1
    from rich.cells import get_character_cell_size

    return get_character_cell_size(char)


def width_of(line: str) -> int:
    """Return how many columns a line takes."""
    text = plain(line)
    return len(text) if text.isascii() else sum(map(columns_of, text))


def crop(line: str, head: int, left: int, width: int, mark: str) -> str:
    """Return the part of a line that ``width`` columns show when it is scrolled ``left`` columns.

    The first ``head`` columns stay. ``mark`` (one column) stands at each side where something is
    left out. ``records.kernels.writing.crop`` does the same for texts of one column a character.
    """
    total = width_of(line)
    hides = left > 0 and total > head
    first, begin, end = (head, head + left + 1, left + width) if hides else (0, 0, width)
    limit = end - (total > end)
    found, at, coloured, told = [], 0, False, not hides
    for part in PARTS.split(line):
        if part.startswith("\x1b"):
            if at < limit or coloured:
                found.append(part)
                coloured = part != RESET
            continue
        for char in part:
            size = columns_of(char)
            if at + size <= first or (at >= begin and at + size <= limit):
                found.append(char)
            elif not told:
                told = True
                found.append(mark)
            at += size
    return "".join(found) + RESET * coloured + mark * (total > end)


def wrap(line: str, indent: int, width: int) -> Iterator[str]:
    """Yield the rows of a line at most ``width`` wide, those behind the first indented.

    Rows break before words, and within a word that is longer than a row. The indent is smaller
    where it would leave few columns.
    """
    head = indent
    if width - indent < _LEAST_ROOM:
        indent = min(indent, width // 4)
    breaks = _breaks(plain(line), head, indent, width)
    row, colour, place, due = "", "", 0, next(breaks, -1)
    for part in PARTS.split(line):
        if part.startswith("\x1b"):
            colour = "" if part == RESET else part
            row += part
            continue
        while 0 <= due < place + len(part):
            taken, part = part[: due - place], part[due - place :]
            yield row + taken.rstrip(" ") + (RESET if colour else "")
            row, place, due = " " * indent + colour, due, next(breaks, -1)
        row += part
        place += len(part)
    yield row


def _breaks(text: str, head: int, indent: int, width: int) -> Iterator[int]:
    """Yield where in a text the rows begin that follow the first; its head is not broken."""
    if text.isascii():
        yield from _plain_breaks(text, head, indent, width)
        return
    at, word, first = 0, 0, head
    for place, char in enumerate(text):
        size = columns_of(char)
        if at + size > width and char != " ":
            start = word if word > first else place
            yield start
            at, first = indent + width_of(text[start:place]), start
        if char == " ":
            word = place + 1
        at += size


def _plain_breaks(text: str, head: int, indent: int, width: int) -> Iterator[int]:
    """Yield the same for a text of one column a character, without a look at each."""
    end, start, first, room = len(text.rstrip(" ")), 0, head, width
    while end - start > room:
        word = text.rfind(" ", first, start + room + 1) + 1
        start = word if word > first else start + room
        while text[start] == " ":
            start += 1
        yield start
        first, room = start, width - indent
