"""What people see is safe, aligned on terminals only, and loses nothing off them."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from qtctl.commands.doctor import Finding, _lines
from qtctl.text.style import Style, escaped, style_for
from qtctl.text.tables import GrowingTable, cut, pairs, panel, table
from qtctl.text.theme import Depth, theme

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
    assert list(table(Style(6, unicode=False), ("E",), [("abcdefgh",)])) == ["E", "abcde~"]
    assert [cut("abc", width) for width in (1, 2, 3)] == ["…", "a…", "abc"]


def test_pairs_are_never_cut() -> None:
    rows = [("k", "a long value of words"), ("key", "v")]
    assert list(pairs(Style(17), rows)) == ["k    a long value", "     of words", "key  v"]
    assert list(pairs(Style(3), rows)) == list(pairs(Style(17), rows))
    path = "/a/path/that/is/longer/than/a/line"
    assert "".join(pairs(Style(20), [("k", path)])).replace(" ", "") == f"k{path}"
    assert list(pairs(PIPE, [("k", "v\n")])) == ["k\tv\\n"]


def test_numbers_stand_at_the_right_and_are_not_shortened() -> None:
    header, rows = ("EVENT", "COUNT"), [("virtio_blk_handle_read", "12"), ("b", "1234567")]
    assert list(table(Style(18), header, rows)) == [
        "EVENT        COUNT",
        "virtio_b…       12",
        "b          1234567",
    ]
    assert list(table(Style(16), header, rows))[1:] == ["virtio…       12", "b        1234567"]


def test_columns_that_do_not_fit_are_counted_in_the_header() -> None:
    header = ("EVENT", "COUNT", "WHERE")
    rows = [("virtio_blk_handle_read", "12", "a"), ("b", "1234567", "c")]
    growing = GrowingTable(Style(20), header)
    assert list(growing.lines(rows)) == [
        "EVENT      COUNT  +1",
        "virtio…       12",
        "b        1234567",
    ]
    assert growing.hidden == 1
    assert list(table(Style(8), header, rows)) == ["EVE…  +2", "vir…", "b"]


@pytest.mark.parametrize("width", [80, 24, 13, 5, 1])
def test_wide_characters_keep_columns_aligned(width: int) -> None:
    rows = [("vm漢字漢字", "1"), ("b", "22"), ("é", "3")]
    lines = list(table(Style(width), ("NAME", "漢"), rows))
    assert len(lines) == 4
    assert all(cell_len(line) <= max(width, 5) for line in lines)
    if width == 80:
        assert len({cell_len(line) for line in lines}) == 1


def test_a_table_in_runs_keeps_its_columns() -> None:
    growing = GrowingTable(TERMINAL, ("NAME", "N"))
    assert list(growing.lines([("abc", "10")])) == ["NAME   N", "abc   10"]
    assert list(growing.lines([("x", "5")])) == ["x      5"]


def test_states_are_coloured_by_their_meaning() -> None:
    states = {"enabled": "good", "unavailable": "faint"}
    rows = [("a", "enabled"), ("b", "disabled")]
    _, on, off = table(
        Style(80, colour=True), ("EVENT", "STATE"), rows, roles={"STATE": states.get}
    )
    assert on == "a      \x1b[32menabled\x1b[0m"
    assert off == "b      disabled"


def test_a_panel_frames_lines_at_any_width() -> None:
    assert list(panel(Style(14), "guest", ["ok  it answers"])) == [
        "╭─ guest ────╮",
        "│ ok  it     │",
        "│ answers    │",
        "╰────────────╯",
    ]
    first, *_ = panel(Style(14, unicode=False), "g", ["ok"])
    assert first == "+- g --------+"


def test_doctor_frames_its_findings_on_a_terminal_only() -> None:
    parts = {"this machine": [Finding("ok", "fine")], "guest": [Finding("bad", "gone", "qtctl ps")]}
    plain = ["ok    fine", "bad   gone", "      try: qtctl ps"]
    assert list(_lines(PIPE, parts)) == plain
    framed = list(_lines(Style(40), parts))
    assert [line.strip("│ ").rstrip() for line in framed if line.startswith("│")] == [
        line.strip() for line in plain
    ]
    assert framed[0].startswith("╭─ this machine ─")


def test_tables_have_the_colours_of_the_configuration() -> None:
    roles = {"A": lambda text: "good"}
    depths: dict[Depth, str] = {16: "\x1b[96m", 256: "38;5;51m", 16777216: "38;2;0;255;255m"}
    for depth, sequence in depths.items():
        colours = theme(depth, "dark", {"good": "#00ffff"})
        [_, row] = table(Style(80, True, True, colours), ("A",), [("x",)], roles=roles)
        assert sequence in row
