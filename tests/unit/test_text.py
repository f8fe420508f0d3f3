"""What people see is safe, aligned on terminals only, and loses nothing off them."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.text.style import Style, escaped, style_for
from qtctl.text.tables import cut, pairs, table

PIPE, TERMINAL = Style(), Style(80)
DANGEROUS = re.compile("[\x00-\x1f\x7f-\x9f\u202e\ud800-\udfff]")


@given(st.text(st.characters(codec=None)))
def test_no_control_character_survives(text: str) -> None:
    assert not DANGEROUS.search(escaped(text))


@pytest.mark.parametrize("number", [*range(0x20), *range(0x7F, 0xA0)])
def test_every_control_byte_is_shown(number: int) -> None:
    shown = escaped(f"a{chr(number)}b")
    assert shown.isprintable()
    assert shown != "ab"


def test_escapes_read_well() -> None:
    assert escaped("plain ünï 漢") == "plain ünï 漢"
    assert escaped("\x1b[31m\n\t\x9b") == "\\x1b[31m\\n\\t\\x9b"
    assert escaped(b"\xff".decode("utf-8", "surrogateescape")) == "\\xff"
    assert escaped("\u202e") == "\\u202e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "choice", "env", "colour"),
    [
        (Terminal(), "auto", {}, True),
        (Terminal(), "auto", {"NO_COLOR": "1"}, False),
        (Terminal(), "auto", {"NO_COLOR": ""}, True),
        (Terminal(), "auto", {"TERM": "dumb"}, False),
        (Terminal(), "always", {"NO_COLOR": "1"}, True),
        (Terminal(), "never", {}, False),
        (io.StringIO(), "auto", {}, False),
        (io.StringIO(), "always", {}, True),
    ],
)
def test_colour_follows_the_choice_then_the_surroundings(
    stream: io.StringIO, choice: str, env: dict[str, str], colour: bool
) -> None:
    assert style_for(stream, choice, env).colour is colour


@pytest.mark.parametrize(
    ("env", "unicode"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C.utf8"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # as Python itself sets it
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, True),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({}, False),
    ],
)
def test_more_than_ascii_is_drawn_where_the_locale_says_so(
    env: dict[str, str], unicode: bool
) -> None:
    assert style_for(Terminal(), "auto", env).unicode is unicode
    assert style_for(io.StringIO(), "auto", env).unicode


def test_tables_are_for_terminals() -> None:
    rows = [("a", "enabled"), ("long_name\x1b", "x")]
    assert list(table(TERMINAL, ("EVENT", "STATE"), rows)) == [
        "EVENT          STATE",
        "a              enabled",
        "long_name\\x1b  x",
    ]
    assert list(table(PIPE, ("EVENT", "STATE"), rows)) == ["a\tenabled", "long_name\\x1b\tx"]
    assert list(table(TERMINAL, ("EVENT",), [])) == []
    assert list(table(Style(6), ("E",), [("abcdefgh",)])) == ["E", "abcde…"]
    assert [cut("abc", width) for width in (1, 2, 3)] == ["…", "a…", "abc"]


def test_pairs_are_never_cut() -> None:
    assert list(pairs(Style(3), [("k", "a long value"), ("key", "v")])) == [
        "k    a long value",
        "key  v",
    ]
    assert list(pairs(PIPE, [("k", "v\n")])) == ["k\tv\\n"]
