"""Lines fitted to columns: cropped and scrolled alike by Python and the kernel, and wrapped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.records.lines import Crop, LineBlock, write_cropped
from qtctl.text.cells import crop, plain, width_of, wrap
from tests.samples import forms, running

ASCII = st.text("abc =", max_size=8)
PART = ASCII | st.builds("\x1b[{}m{}\x1b[0m".format, st.sampled_from(["1;36", "2"]), ASCII)
LINE = st.lists(PART, max_size=6).map("".join)
WIDE = st.lists(PART | st.text("漢é…", max_size=4), max_size=6).map("".join)


def by_kernel(lines: list[str], heads: list[int], left: int, width: int, mark: str) -> list[str]:
    blocks = []
    for row, (line, head) in enumerate(zip(lines, heads, strict=True)):
        block = LineBlock(np.array([row]))
        block.literal(line)
        block.head = head
        blocks.append(block)
    return write_cropped(blocks, Crop(width, left, mark))


@given(
    st.lists(st.tuples(LINE | WIDE, st.integers(0, 9)), min_size=1, max_size=4),
    st.integers(0, 12),
    st.integers(12, 30),
    st.sampled_from("…~"),
)
def test_the_kernel_crops_as_python_does(
    rows: list[tuple[str, int]], left: int, width: int, mark: str
) -> None:
    lines, heads = [line for line, _ in rows], [head for _, head in rows]
    expected = [crop(line, head, left, width, mark) for line, head in rows]
    for form in forms():
        with running(form):
            assert by_kernel(lines, heads, left, width, mark) == expected


@given(WIDE, st.integers(0, 9), st.integers(0, 12), st.integers(12, 30))
def test_a_cropped_line_fits_and_tells_what_is_missing(
    line: str, head: int, left: int, width: int
) -> None:
    shown = crop(line, head, left, width, "~")
    assert width_of(shown) <= width
    fits = width_of(line) <= width and (not left or width_of(line) <= head)
    assert (plain(shown) == plain(line)) if fits else ("~" in shown)
    assert shown.count("\x1b[0m") >= ("\x1b[1;36m" in shown)


@pytest.mark.parametrize(
    ("left", "expected"),
    [(0, "12:00 name vdev=0x5…"), (4, "12:00 name …0x55f0 …"), (40, "12:00 name …")],
)
def test_the_head_stays_while_arguments_scroll(left: int, expected: str) -> None:
    assert crop("12:00 name vdev=0x55f0 sector=1", 11, left, 20, "…") == expected


def test_long_lines_wrap_before_words_with_a_hanging_indent() -> None:
    line = "12:00 name \x1b[2mvdev=\x1b[0m0x55f0 sector=1234 nsectors=8"
    assert [plain(row) for row in wrap(line, 6, 22)] == [
        "12:00 name vdev=0x55f0",
        "     sector=1234",
        "     nsectors=8",
    ]
    assert list(wrap(f"{'x' * 34} y", 6, 36)) == [f"{'x' * 34} y"]
    assert list(wrap(f"{'x' * 34} yy", 6, 36)) == ["x" * 34, "      yy"]
    assert list(wrap("x" * 10, 0, 4)) == ["xxxx", "xxxx", "xx"]
    assert [plain(row) for row in wrap("12:00 \x1b[1m" + "x" * 9 + "\x1b[0m", 6, 12)] == [
        "12:00 xxxxxx",
        "   xxx",
    ]


@given(LINE, st.integers(0, 40), st.integers(4, 30))
def test_plain_lines_break_where_others_do(line: str, indent: int, width: int) -> None:
    rows = [plain(row) for row in wrap(line + "…", indent, width)]
    expected = [plain(row) for row in wrap(line + "=", indent, width)]
    assert [row.replace("…", "=") for row in rows] == expected


@given(WIDE, st.integers(0, 40), st.integers(4, 30))
def test_wrapping_loses_nothing_but_blanks(line: str, indent: int, width: int) -> None:
    rows = list(wrap(line, indent, width))
    assert "".join(map(plain, rows)).replace(" ", "") == plain(line).replace(" ", "")
    assert all(width_of(row.rstrip()) <= width for row in map(plain, rows))
