"""Colours can be read on their background, and told apart, also by the colour-blind."""

from __future__ import annotations

from itertools import combinations

import pytest

from qtctl.text.theme import IDENTITIES, Background, background_of, depth_of, place, sgr, theme

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
}


def linear(colour: str) -> list[float]:
    values = (part / 255 for part in bytes.fromhex(colour[1:]))
    return [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in values]


def luminance(rgb: list[float]) -> float:
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]


def lab(rgb: list[float]) -> tuple[float, float, float]:
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(a * b for a, b in zip(row, rgb, strict=True)) for row in rows]
    x, y, z = (
        max(one / white, 0) ** (1 / 3) for one, white in zip(xyz, (0.95, 1, 1.089), strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def seen(colour: str, blindness: str) -> tuple[float, float, float]:
    rgb = linear(colour)
    rows = BLINDNESS[blindness]
    return lab([max(0.0, sum(a * b for a, b in zip(row, rgb, strict=True))) for row in rows])


@pytest.mark.parametrize("background", ["dark", "light", "any"])
def test_identities_are_readable_and_differ(background: Background) -> None:
    grounds = {"dark": ["#000000"], "light": ["#ffffff"], "any": ["#000000", "#ffffff"]}
    for colour in IDENTITIES[background]:
        for ground in grounds[background]:
            high, low = sorted((luminance(linear(colour)), luminance(linear(ground))))[::-1]
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, ground)
    for blindness in BLINDNESS:
        for one, two in combinations(IDENTITIES[background], 2):
            away = sum(
                (a - b) ** 2
                for a, b in zip(seen(one, blindness), seen(two, blindness), strict=True)
            )
            assert away**0.5 >= 20, (blindness, one, two)


def test_the_same_text_has_the_same_colour_on_every_terminal() -> None:
    for depth in (16, 256, 1 << 24):
        one = theme(depth)  # type: ignore[arg-type]
        assert one.identity("0x55f0") == one.identities[place("0x55f0", len(one.identities))]
    assert len({theme().identity(str(number)) for number in range(50)}) == len(theme().identities)


def test_looks_become_sequences() -> None:
    assert sgr("bold cyan") == "1;36"
    assert sgr("#ff8800", 1 << 24) == "38;2;255;136;0"  # type: ignore[arg-type]
    assert sgr("underline #ff8800", 256) == "4;38;5;208"
    assert sgr("#ff0000") == "91"
    assert theme(changes={"bad": "reverse"}).roles["bad"] == "7"
    for wrong in ("purplish", "#gg0000"):
        with pytest.raises(ValueError, match=f"'{wrong}' is no colour"):
            sgr(wrong)


@pytest.mark.parametrize(
    ("env", "depth", "background"),
    [
        ({}, 16, "any"),
        ({"TERM": "xterm-256color", "COLORFGBG": "15;0"}, 256, "dark"),
        ({"COLORTERM": "truecolor", "COLORFGBG": "0;default;15"}, 1 << 24, "light"),
        ({"TERM": "linux", "COLORFGBG": "x"}, 16, "any"),
    ],
)
def test_a_terminal_tells_what_it_can(env: dict[str, str], depth: int, background: str) -> None:
    assert depth_of(env) == depth
    assert background_of(env) == background
