"""Coloured lines as prompt_toolkit draws them: with marked matches, and a selected row."""

from __future__ import annotations

import re
from functools import lru_cache

from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples, to_formatted_text
from prompt_toolkit.output import ColorDepth

from qtctl.text.cells import PARTS
from qtctl.text.style import Style

SELECTED = "reverse"
_DEPTHS = {16: ColorDepth.DEPTH_4_BIT, 256: ColorDepth.DEPTH_8_BIT}
MATCH = "bold underline bg:ansiyellow fg:ansiblack"


def colour_depth(style: Style) -> ColorDepth:
    """Return how many colours a full screen has."""
    depth = _DEPTHS.get(style.theme.depth, ColorDepth.DEPTH_24_BIT)
    return depth if style.colour else ColorDepth.DEPTH_1_BIT


@lru_cache(maxsize=256)
def look_of(sequence: str) -> str:
    """Return an SGR sequence as a style of prompt_toolkit."""
    return str(to_formatted_text(ANSI(f"{sequence}x"))[0][0])


def fragments(line: str, *, match: str = "", base: str = "") -> StyleAndTextTuples:
    """Return a line with SGR sequences as fragments, with each ``match`` marked, ignoring case."""
    found: StyleAndTextTuples = []
    text, look = "", ""
    for part in PARTS.split(line):
        if part.startswith("\x1b"):
            look = look_of(part)
        elif part:
            found.append((f"{look} {base}".strip(), part))
            text += part
    return _marked(found, text, match) if match else found


def _marked(parts: StyleAndTextTuples, text: str, match: str) -> StyleAndTextTuples:
    hits = re.finditer(re.escape(match), text, re.IGNORECASE)
    edges = [edge for hit in hits for edge in hit.span()]
    found: StyleAndTextTuples = []
    place = 0
    for part in parts:
        look, shown = part[0], part[1]
        inner = [edge - place for edge in edges if place < edge < place + len(shown)]
        for begin, end in zip([0, *inner], [*inner, len(shown)], strict=True):
            inside = sum(edge <= place + begin for edge in edges) % 2
            found.append((f"{look} {MATCH}" if inside else look, shown[begin:end]))
        place += len(shown)
    return found
