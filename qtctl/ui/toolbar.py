"""The bar below the prompt: what the guest does on the left, the keys on the right. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from prompt_toolkit.formatted_text import StyleAndTextTuples

from qtctl.text.cells import width_of
from qtctl.text.tables import cut

Key = tuple[str, str]
"""A key as it is printed, and what it does."""

READY: Sequence[Key] = (
    ("Tab", "complete"),
    ("^R", "search"),
    ("^C", "stop"),
    ("^D", "leave"),
    ("?", "help"),
    ("^G", "guests"),
)
TYPED: Sequence[Key] = (
    ("Enter", "run"),
    ("Tab", "complete"),
    ("^C", "clear"),
    ("M-Enter", "new line"),
)
OPEN: Sequence[Key] = (("Enter", "next line: a quotation is open"), ("^C", "clear"))
SEARCH: Sequence[Key] = (("Enter", "take"), ("^R", "older"), ("^C", "back"))
QUESTION: Sequence[Key] = (("y", "yes"), ("Enter", "no"))

_GAP = "  "


def toolbar(state: str, keys: Sequence[Key], width: int) -> StyleAndTextTuples:
    """Return the bar, exactly ``width`` columns wide.

    As many keys are shown, from the first on, as fit beside the state of the guest.
    """
    state = cut(state, width)
    room = width - width_of(state)
    shown = list[Key]()
    for key, what in keys:
        size = width_of(f"{_GAP}{key} {what}")
        if size + 1 > room:
            break
        room -= size
        shown.append((key, what))
    # The class of the blanks makes them others than those in the state, which is then drawn whole.
    blanks = " " * (room - 1 if shown else room)
    parts: StyleAndTextTuples = [("", state), ("class:bottom-toolbar.blanks", blanks)]
    for key, what in shown:
        parts += [("", _GAP), ("class:bottom-toolbar.key", key), ("", f" {what}")]
    return [*parts, ("", " ")] if shown else parts
