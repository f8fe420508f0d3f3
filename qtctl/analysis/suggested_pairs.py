"""Pairs of START and END among events, by their names and arguments: to suggest, not to trust."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from qtctl.analysis.pairs import ENDINGS, learn_key, request_names
from qtctl.errors import UsageError
from qtctl.model import Declaration

_MOST = 200
"""Of larger families none is obvious."""


def suggested(declared: Iterable[Declaration]) -> list[tuple[str, str]]:
    """Return pairs of events of one family that name the same request, the likeliest first.

    The last word of the END ends a request; among those, ``complete`` is likelier than ``error``.
    """
    families: dict[tuple[str, ...], list[Declaration]] = defaultdict(list)
    for one in declared:
        families[tuple(one.name.split("_")[:2])].append(one)
    found = [pair for family in families.values() if len(family) <= _MOST for pair in _of(family)]
    return [(start, end) for _, start, end in sorted(found)]


def _of(family: list[Declaration]) -> Iterator[tuple[int, str, str]]:
    """Yield pairs of a family with their rank, the least likely with the highest."""
    ends = [(one, ENDINGS.index(word)) for one in family if (word := _last(one)) in ENDINGS]
    for start in family:
        if _last(start) in ENDINGS:
            continue
        for end, rank in ends:
            if set(request_names(start)) & set(request_names(end)) and _paired(start, end):
                yield rank, start.name, end.name


def _paired(start: Declaration, end: Declaration) -> bool:
    try:
        return bool(learn_key([start], [end]))
    except UsageError:
        return False


def _last(declaration: Declaration) -> str:
    return declaration.name.rpartition("_")[2]
