"""The result of a one-shot verb."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from qtctl.text.style import Style


class Result(NamedTuple):
    """A JSON document, the same as lines for people, and an exit code."""

    document: Any
    lines: Callable[[Style], Iterable[str]]
    exit_code: int = 0
