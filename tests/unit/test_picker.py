"""The list to choose from: what is shown and selected as letters are typed and keys pressed."""

from __future__ import annotations

import asyncio

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from qtctl.text.style import Style
from qtctl.ui.picker import Choices, Picker

ROWS = [("12", "vm1", "7.2"), ("34", "Web", "10.0"), ("56", "web-db", "10.0")]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("", [0, 1, 2]),
        ("web", [1, 2]),
        ("WEB 10", [1, 2]),
        ("db web", [2]),
        ("  ", [0, 1, 2]),
        ("1", [0, 1, 2]),
        ("nosuch", []),
    ],
)
def test_rows_with_all_typed_words_are_shown(typed: str, shown: list[int]) -> None:
    choices = Choices(ROWS)
    choices.narrow(typed)
    assert choices.shown == shown
    assert choices.selected == (shown[0] if shown else None)


def test_the_selected_row_stays_while_it_is_shown() -> None:
    choices = Choices(ROWS, selected=2)
    for typed in ("w", "we", "web", ""):
        choices.narrow(typed)
        assert choices.selected == 2
    choices.narrow("vm1")
    assert choices.selected == 0
    for down, selected in ((-1, 0), (1, 0)):
        choices.move(down)
        assert choices.selected == selected
    choices.narrow("")
    for down, selected in ((1, 1), (5, 2), (-9, 0)):
        choices.move(down)
        assert choices.selected == selected
    choices.narrow("nosuch")
    choices.move(1)
    assert choices.selected is None


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ("\r", 1),
        ("\x1b[B\r", 2),
        ("\x1b[A\x1b[A\r", 0),
        ("\x1b[6~\r", 2),
        ("vm\r", 0),
        ("nosuch\r\x15db\r", 2),
        ("\x03", None),
        ("\x07", None),
        ("db\x1b", None),
    ],
)
def test_keys_choose_a_row_or_leave(keys: str, chosen: int | None) -> None:
    async def run() -> int | None:
        with create_pipe_input() as typed:
            typed.send_text(keys)
            header = ("PID", "NAME", "VERSION")
            picker = Picker(
                Style(80), "guest", header, ROWS, selected=1, input=typed, output=DummyOutput()
            )
            return await picker.run()

    assert asyncio.run(run()) == chosen
