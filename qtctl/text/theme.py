"""Colours: how a role looks, and the palette that tells identities apart, on any terminal.

The colours of ``IDENTITIES`` are those of the 256 that differ most, also for the colour-blind, and
are readable on their background; red is left for trouble. SGR parameters: ECMA-48, 8.3.117.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qtctl.config import Settings

Background: TypeAlias = Literal["dark", "light", "any"]
"""``any``: the terminal's is not known, and colours must be readable on both."""
Depth: TypeAlias = Literal[16, 256, 16777216]

_WORDS = {
    word: str(number)
    for number, word in (
        *((1, "bold"), (2, "faint"), (3, "italic"), (4, "underline"), (7, "reverse")),
        *((30, "black"), (31, "red"), (32, "green"), (33, "yellow"), (34, "blue")),
        *((35, "magenta"), (36, "cyan"), (37, "white"), (90, "grey")),
        *((91, "bright-red"), (92, "bright-green"), (93, "bright-yellow"), (94, "bright-blue")),
        *((95, "bright-magenta"), (96, "bright-cyan"), (97, "bright-white")),
    )
}
ROLES: Mapping[str, str] = {
    "event": "bold cyan",
    "time": "faint",
    "key": "faint",
    "good": "green",
    "bad": "red",
    "note": "magenta",
    "faint": "faint",
    "slow": "bold yellow",
}
"""The look of each role: words of ``_WORDS`` and colours as ``#rrggbb``."""
_ON_LIGHT: Mapping[str, str] = {"event": "bold blue", "slow": "bold magenta"}

IDENTITIES: Mapping[Background, tuple[str, ...]] = {
    "dark": (
        *("#afd7ff", "#ffff00", "#5f5fff", "#afff87"),
        *("#00875f", "#5f87d7", "#afffd7", "#5f8700"),
    ),
    "light": (
        *("#005faf", "#008700", "#87005f", "#0000ff"),
        *("#00005f", "#5f5fff", "#00875f", "#0000af"),
    ),
    "any": ("#af5fff", "#af8700", "#5f8787", "#af875f", "#875faf", "#8700ff"),
}
HEAT: Mapping[Background, tuple[str, ...]] = {
    "dark": (
        *("#5f5f87", "#5f5faf", "#5f87af", "#5fafaf"),
        *("#5fd7af", "#87d787", "#d7d75f", "#ffff87"),
    ),
    "light": (
        *("#87afd7", "#87afaf", "#5f87d7", "#5f87af"),
        *("#5f5faf", "#5f5f87", "#00005f", "#000000"),
    ),
    "any": (
        *("#5f5fd7", "#5f87d7", "#5f87af", "#5f8787"),
        *("#87875f", "#af875f", "#af8700", "#d78700"),
    ),
}
"""Intensities, the least first: further and further from the background, also for the colour-blind;
where that is not known, from blue to orange. With 16 colours there are none."""
_SIXTEEN: Mapping[Background, tuple[str, ...]] = {
    "dark": ("36", "35", "32", "33", "94", "96", "95", "92"),
    "light": ("34", "35", "36", "32", "33"),
    "any": ("36", "35", "32", "33", "94"),
}
_STEPS = (0, 95, 135, 175, 215, 255)
"""Intensities of the cube of 256 colours."""


@dataclass(frozen=True, slots=True)
class Theme:
    """SGR parameters by role, and those of the palettes of identities and of intensities."""

    roles: Mapping[str, str]
    identities: tuple[str, ...]
    depth: Depth = 16
    heat: tuple[str, ...] = ()

    def identity(self, name: str) -> str:
        """Return the parameters for a text; the same text has the same colour everywhere."""
        return self.identities[place(name, len(self.identities))]


def place(text: str, size: int) -> int:
    """Return the place of a text in a palette of ``size``."""
    return binascii.crc32(text.encode("utf-8", "backslashreplace")) % size


def sgr(look: str, depth: Depth = 16) -> str:
    """Return the SGR parameters of a look such as ``bold #ff8800``.

    Raises:
        ValueError: a word is no attribute and no colour.
    """
    return ";".join(_parameters(word, depth) for word in look.split())


def _parameters(word: str, depth: Depth) -> str:
    if word in _WORDS:
        return _WORDS[word]
    if not re.fullmatch("#[0-9a-fA-F]{6}", word):
        raise ValueError(f"{word!r} is no colour: #rrggbb, {', '.join(_WORDS)}")
    rgb = tuple(bytes.fromhex(word[1:]))
    if depth > 256:
        return "38;2;{};{};{}".format(*rgb)
    if depth == 256:
        red, green, blue = (_nearest(value) for value in rgb)
        return f"38;5;{16 + 36 * red + 6 * green + blue}"
    bright = max(rgb) > 0xA0
    bits = sum((value > max(rgb) / 2) << place for place, value in enumerate(rgb))
    return str((90 if bright else 30) + bits)


def _nearest(value: int) -> int:
    return min(range(6), key=lambda step: abs(_STEPS[step] - value))


def theme(
    depth: Depth = 16, background: Background = "any", changes: Mapping[str, str] | None = None
) -> Theme:
    """Return the theme of a terminal; ``changes`` are looks of roles that the user wants.

    Raises:
        ValueError: a look is wrong.
    """
    looks = {**ROLES, **(_ON_LIGHT if background == "light" else {}), **(changes or {})}
    palette, heat = _SIXTEEN[background], tuple[str, ...]()
    if depth > 16:
        palette = tuple(sgr(colour, depth) for colour in IDENTITIES[background])
        heat = tuple(sgr(colour, depth) for colour in HEAT[background])
    return Theme({role: sgr(look, depth) for role, look in looks.items()}, palette, depth, heat)


def configured_theme(found: Settings, env: Mapping[str, str]) -> Theme:
    """Return the theme of a terminal with the ``[colors]`` of the user's configuration.

    Raises:
        UsageError: there is no such role, or a look is wrong.
    """
    looks: dict[str, str] = dict(found.tables["colors"])
    wanted = looks.pop("background", None) or background_of(env)
    background = next((one for one in IDENTITIES if one == wanted), None)
    if background is None:
        key = ("colors", "background")
        raise found.wrong(key, f"the background is {' or '.join(IDENTITIES)}, not {wanted!r}")
    for role, look in looks.items():
        key = ("colors", role)
        if role not in ROLES:
            names = ("background", *ROLES)
            raise found.wrong(key, f"nothing is coloured as {role!r}", name=role, names=names)
        try:
            sgr(look)
        except ValueError as error:
            raise found.wrong(key, str(error)) from error
    return theme(depth_of(env), background, looks)


def depth_of(env: Mapping[str, str]) -> Depth:
    """Return how many colours a terminal has, by ``COLORTERM`` and ``TERM``."""
    if env.get("COLORTERM") in ("truecolor", "24bit"):
        return 16777216
    return 256 if "256color" in env.get("TERM", "") else 16


def background_of(env: Mapping[str, str]) -> Background:
    """Return the background that ``COLORFGBG`` (set by rxvt and konsole) tells."""
    number = env.get("COLORFGBG", "").rpartition(";")[2]
    if not number.isdigit():
        return "any"
    return "light" if number in ("7", "15") else "dark"
