"""The prompt's line as it is typed: its colours, its menu, the bar with keys, lines that go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.document import Document

from qtctl.commands.slots import divided, is_comment, scan_line
from qtctl.model import EventState
from qtctl.text.cells import width_of
from qtctl.text.style import Style
from qtctl.ui.completer import marked
from qtctl.ui.completion import matched
from qtctl.ui.pager import pager_of
from qtctl.ui.prompt import styles
from qtctl.ui.repl import verbs
from qtctl.ui.toolbar import OPEN, READY, SEARCH, TYPED, toolbar
from qtctl.ui.typed_line import KnownWords, TypedLine

TABLE = verbs()
STATES = {"virtio_blk_handle_read": EventState.ENABLED, "nvme_read": EventState.DISABLED}


def kinds(text: str) -> list[tuple[str, str]]:
    known = KnownWords(TABLE, STATES, {"blk": "tail @virtio-blk --where"})
    found = known.spans(text)
    return [(text[begin:end], kind) for begin, end, kind in found]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("tail", [("tail", "verb")]),
        ("ta", []),
        ("tial x", [("tial", "unknown")]),
        ("blk 'size > 4'", [("blk", "verb"), ("'size > 4'", "value")]),
        ("qtctl list nvme_read", [("list", "verb"), ("nvme_read", "event")]),
        ("info nvme_rea", [("info", "verb")]),
        (
            "tail nosuch nvme_read",
            [("tail", "verb"), ("nosuch", "unknown"), ("nvme_read", "event")],
        ),
        ("tail 'nvme_*' @x", [("tail", "verb"), ("'nvme_*'", "event"), ("@x", "event")]),
        ("tail --tim delta", [("tail", "verb"), ("--tim", "unknown")]),
        ("tail --tim", [("tail", "verb")]),
        ("tail --time delta", [("tail", "verb"), ("--time", "option"), ("delta", "value")]),
        ("list --state=enabled", [("list", "verb"), ("--state=", "option"), ("enabled", "value")]),
        (
            "tail --time dleta ",
            [("tail", "verb"), ("--time", "option"), ("dleta", "unknown")],
        ),
        ("  # tail x", [("  # tail x", "comment")]),
        ("ps\nlist", [("ps", "verb"), ("list", "verb")]),
        ("query 'SELECT\n1' f", [("query", "verb")]),
    ],
)
def test_a_line_has_colours(text: str, wanted: list[tuple[str, str]]) -> None:
    assert kinds(text) == wanted


@given(st.text(alphabet="tail -'\"\\\n@*=#x", max_size=30))
def test_any_text_can_be_coloured(text: str) -> None:
    document = Document(text)
    line = TypedLine(KnownWords(TABLE, STATES, {}).spans).lex_document(document)
    drawn = ["".join(part[1] for part in line(number)) for number in range(document.line_count)]
    assert "\n".join(drawn) == text


@given(st.text(alphabet="ab '\"\\\n#", max_size=30))
def test_text_is_divided_at_ends_of_lines_outside_quotations(text: str) -> None:
    lines = divided(text)
    assert "\n".join(lines) == text
    for line in lines[:-1]:
        assert is_comment(line) or scan_line(line)[1] is None


def test_a_quotation_goes_on_in_the_next_line() -> None:
    assert divided("query 'a\nb' f\nps") == ("query 'a\nb' f", "ps")
    assert divided("# don't\nps") == ("# don't", "ps")
    assert divided("ps\nquery 'a\n") == ("ps", "query 'a\n")


@pytest.mark.parametrize(
    ("word", "name", "marks"),
    [
        ("blk", "virtio_blk_read", "       ^^^     "),
        ("BLK", "virtio_blk_read", "       ^^^     "),
        ("vbr", "virtio_blk_read", "^      ^   ^   "),
        ("blkread", "virtio_blk_handle_read", "       ^^^        ^^^^"),
        ("ird", "virtio_blk_read", " ^^           ^"),
        ("xyz", "virtio_blk_read", "               "),
        ("", "virtio", "      "),
    ],
)
def test_the_letters_that_were_typed_are_marked(word: str, name: str, marks: str) -> None:
    places = matched(word, name)
    assert "".join("^" if place in places else " " for place in range(len(name))) == marks
    parts = marked(name, word)
    assert "".join(part[1] for part in parts) == name
    assert {part[0] for part in parts} <= {"", "class:completion-menu.match"}


def test_a_bar_is_as_wide_as_the_terminal() -> None:
    for width in (1, 10, 40, 80, 120):
        for keys in (READY, TYPED, OPEN, SEARCH):
            parts = toolbar(" vm1 running | 3 on ", keys, width)
            assert len("".join(part[1] for part in parts)) == width
    for width in (20, 40, 80):
        parts = toolbar(" \u865a\u62df\u673a running ", READY, width)
        assert width_of("".join(part[1] for part in parts)) == width
    wide = "".join(part[1] for part in toolbar(" vm1 running ", READY, 70))
    assert wide.endswith("Tab complete  ^R search  ^C stop  ^D leave  ? help ")
    narrow = "".join(part[1] for part in toolbar(" vm1 running ", READY, 30))
    assert narrow.rstrip().endswith("Tab complete")


def test_what_pages_an_answer() -> None:
    assert pager_of({"PAGER": "sh -c x"}) == ["sh", "-c", "x"]
    for none in ("", "cat", "no-such-program", "less '"):
        assert not pager_of({"PAGER": none})


def test_the_looks_follow_colour() -> None:
    def unknown(style: Style) -> str:
        return styles(style).get_attrs_for_style_str("class:unknown").color or ""

    assert unknown(Style(80, colour=True)) == "ansired"
    assert unknown(Style(80)) == ""
