"""Figures, bars and tables of rates fit what they are shown on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.rates import OTHERS, Rate, Snapshot
from qtctl.text.bars import sparkline
from qtctl.text.style import Style
from qtctl.text.units import short
from qtctl.ui.rate_table import rate_table

HISTORY = (*range(59), 100)


def rate(key: object, per_s: float) -> Rate:
    return Rate(key, per_s, per_s * 50, int(per_s * 3), 0, HISTORY)  # type: ignore[arg-type]


SNAPSHOT = Snapshot(
    (rate("virtio_blk_handle_read", 1500), rate("a\x1b[31m\nb", 0.5)),
    rate(OTHERS, 500),
    rate(OTHERS, 2000.5),
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.04, "0"), (0.5, "0.5"), (1, "1"), (9.94, "9.9"), (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.00k"), (12_345, "12.3k"), (999_499, "999k"), (999_500, "1.00M"),
        (1_347_349, "1.35M"), (2**63, "9.22E"),
    ],
)  # fmt: skip
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


@given(st.floats(0, 1e20))
def test_short_numbers_are_short(value: float) -> None:
    assert len(short(value)) <= 5
    units = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
    shown = short(value)
    told = float(shown.rstrip("kMGTPE")) * units.get(shown[-1], 1)
    assert told == pytest.approx(value, rel=0.06, abs=0.05)


@given(st.lists(st.integers(0, 10**12), max_size=70), st.integers(-1, 80), st.booleans())
def test_a_sparkline_has_its_width(values: list[int], width: int, unicode: bool) -> None:
    line = sparkline(values, width, unicode=unicode)
    assert len(line) == (max(0, width) if values else 0)
    assert line.strip() or not any(values) or width < 1
    assert unicode or line.isascii()


def test_a_sparkline_shows_the_highest_and_blanks_nothing() -> None:
    assert sparkline([0, 1, 50, 100], 4) == " ▁▅█"
    assert sparkline([0, 1, 50, 100], 2) == "▁█"
    assert sparkline([0, 100], 2, unicode=False) == " @"
    assert sparkline([0, 0], 2) == "  "


def test_off_a_terminal_rows_are_lines_of_tabs() -> None:
    assert list(rate_table(Style(), SNAPSHOT, str)) == [
        "virtio_blk_handle_read\t1500.0\t75000\t75.0\t4500",
        "a\\x1b[31m\\nb\t0.5\t25\t0.0\t1",
        "(others)\t500.0\t25000\t25.0\t1500",
    ]


@pytest.mark.parametrize("width", range(1, 130))
def test_a_table_fits_its_terminal(width: int) -> None:
    lines = list(rate_table(Style(width), SNAPSHOT, str))
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_forty_columns_show_the_name_rate_and_share() -> None:
    lines = list(rate_table(Style(40), SNAPSHOT, str))
    assert lines[0].split() == ["EVENT", "/s", "SHARE"]
    assert lines[1].split() == ["virtio_blk_handle_read", "1.50k", "75%"]


def test_a_wide_terminal_shows_the_last_minute() -> None:
    lines = list(rate_table(Style(100, unicode=False), SNAPSHOT, str))
    assert lines[0].split()[-2:] == ["LAST", "MINUTE"]
    assert lines[1].endswith("@")
    assert all(line.isascii() for line in lines)


LONG = Snapshot((rate("a" * 70, 5), rate("b" * 150, 4)), None, rate(OTHERS, 9))


def test_names_have_what_the_width_allows() -> None:
    for width, shown in ((100, 60), (150, 110), (181, 141), (200, 150), (220, 150)):
        line = list(rate_table(Style(width), LONG, str))[2]
        assert line.startswith("b" * (shown - 1)), width
        assert len(line) <= width
    assert "LAST MINUTE" in next(iter(rate_table(Style(220), LONG, str)))
