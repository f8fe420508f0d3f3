"""Escape control characters for a terminal, and decide on width, colour and Unicode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TextIO

from qtctl.text.theme import Theme, background_of, depth_of, theme

# C0, DEL, C1, line separators, bidirectional controls, and surrogates (bytes that were not UTF-8).
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NO_COLOUR = re.compile(rf"(?!\t|\x1b\[[0-9;]*m){_UNSAFE.pattern}")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str) -> str:
    """Return ``text`` with every character that a terminal could interpret as an escape."""
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    number = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape: the byte that was read
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def printable(line: str) -> str:
    """Escape what is left in a line that is about to be written but tabs and colours."""
    return line if line.isprintable() else _NO_COLOUR.sub(_escape, line)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 event``, ``2 events``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str, limit: int = 1000) -> str:
    """Return ``text``, without its middle if it is longer than ``limit`` characters."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} ... {text[-half:]}"


_PLAIN = theme()


@dataclass(frozen=True, slots=True)
class Style:
    """Properties of an output: ``width`` in columns (0: not a terminal), and colour.

    ``unicode`` is whether bars and frames may use characters beyond ASCII; ``theme``
    has the colours.
    """

    width: int = 0
    colour: bool = False
    unicode: bool = True
    theme: Theme = _PLAIN

    @property
    def terminal(self) -> bool:
        """Whether the output is a terminal, so that tables are aligned."""
        return self.width > 0

    def narrower(self, columns: int) -> Style:
        """Return this style for an output that is ``columns`` narrower."""
        return replace(self, width=max(1, self.width - columns))

    def paint(self, text: str, role: str) -> str:
        """Return ``text`` escaped, in the colour of ``role`` (of ``theme.ROLES``) if it is on."""
        before, after = self.colours(role)
        return f"{before}{escaped(text)}{after}" if text else text

    def colours(self, role: str) -> tuple[str, str]:
        """Return the sequences that begin and end the colour of ``role``; empty without colour."""
        return self.sequences(self.theme.roles[role])

    def sequences(self, parameters: str) -> tuple[str, str]:
        """Return the sequences that begin and end an SGR; empty without colour."""
        return (f"\x1b[{parameters}m", "\x1b[0m") if self.colour else ("", "")


STATES: Mapping[str, str] = {"enabled": "good", "unavailable": "faint"}
"""The roles of event states; a disabled event is plain."""


def style_for(
    stream: TextIO, choice: str, env: Mapping[str, str], colours: Theme | None = None
) -> Style:
    """Return the style of ``stream``. ``choice`` is ``--color``: auto, always or never.

    ``colours`` are those of the user's configuration.

    ``NO_COLOR`` (https://no-color.org) and ``TERM=dumb`` switch colour off in auto.
    """
    terminal = stream.isatty()
    plain = bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
    colour = choice == "always" or (choice == "auto" and terminal and not plain)
    width = terminal_columns() if terminal else 0
    colours = colours or theme(depth_of(env), background_of(env))
    return Style(width, colour, not terminal or _accepts_utf8(env), colours)


def terminal_columns() -> int:
    """Return the width of the terminal now, by ``COLUMNS`` or the terminal behind stdout."""
    import shutil  # slow: it imports the archive modules

    return max(1, shutil.get_terminal_size().columns)


def _accepts_utf8(env: Mapping[str, str]) -> bool:
    """Return whether the terminal accepts UTF-8, by the locale.

    LC_CTYPE=C.UTF-8 is ignored, as Python itself sets it in the C locale (PEP 538).
    """
    kind = env.get("LC_CTYPE", "")
    locale = env.get("LC_ALL") or (kind != "C.UTF-8" and kind) or env.get("LANG") or ""
    return "utf" in locale.lower()
