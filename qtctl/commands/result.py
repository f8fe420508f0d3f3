"""What a one-shot verb returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from qtctl.text.style import Style


class Result(NamedTuple):
    """What a one-shot verb found: a JSON document, the same as lines for people, an exit code."""

    document: Any
    lines: Callable[[Style], Iterable[str]]
    exit_code: int = 0
