"""What two hosts tell each other about a stream, as JSON objects and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qtctl.errors import UsageError
from qtctl.events.selection import Selection
from qtctl.events.states import SwitchReport
from qtctl.model import Budget
from qtctl.records.counts import Counts
from qtctl.session.follow import Follow
from qtctl.shapes import any_text, elements, flag, member, members, pair, whole

_SUMS = ("read", "shown", "filtered", "lost", "unknown_losses", "unread", "own", "perhaps_own")


def follow_object(follow: Follow) -> dict[str, Any]:
    """Return the settings of a stream, with the event sets that they name."""
    chosen = _selection_object(follow.selection)
    return {**follow._asdict(), "selection": chosen, "kernel": list(follow.kernel)}


def read_follow(value: object) -> Follow:
    """Return the settings of an object.

    Raises:
        UsageError: another version has others.
        Malformed: one has another shape.
    """
    told = members(value, "the settings")
    if unknown := told.keys() - {*Follow._fields}:
        raise UsageError(f"this version cannot do that: {', '.join(sorted(unknown))}")
    guard = told.get("guard")
    kernel = elements(told.get("kernel", []), "the kernel's events")
    return Follow(**told)._replace(
        selection=_read_selection(member(told, "selection")),
        kernel=tuple(any_text(one, "an event") for one in kernel),
        guard=None if guard is None else Budget(*elements(guard, "the limit")),
    )


def _selection_object(selection: Selection) -> dict[str, Any]:
    sets = {name: _selection_object(one) for name, one in selection.sets.items()}
    return {"rules": [list(rule) for rule in selection.rules], "sets": sets}


def _read_selection(value: object) -> Selection:
    told = members(value, "a selection")
    rules = [pair(rule, "a rule") for rule in elements(member(told, "rules"), "the rules")]
    sets = members(member(told, "sets"), "the sets")
    return Selection(
        tuple((flag(include, "a rule"), any_text(one, "a pattern")) for include, one in rules),
        {name: _read_selection(one) for name, one in sets.items()},
    )


def sums_object(counts: Counts) -> dict[str, int]:
    """Return the sums of a stream."""
    return {name: number for name, number in asdict(counts).items() if name in _SUMS}


def read_sums(value: object, into: Counts) -> None:
    """Set the sums of a stream to those of an object."""
    told = members(value, "the sums")
    for name in _SUMS:
        setattr(into, name, whole(told.get(name, 0), "a sum", 0))


def read_report(value: object) -> SwitchReport | None:
    """Return the report on a switch of an object, or None."""
    if value is None:
        return None
    told = members(value, "the report")

    def names(of: str) -> tuple[str, ...]:
        return texts(told.get(of, []), of)

    return SwitchReport(
        flag(member(told, "enable"), "enable"),
        names("matched"),
        names("changed"),
        names("already"),
        names("unavailable"),
        names("failed"),
        names("unmatched"),
        unknown=names("unknown"),
    )


def texts(value: object, what: str) -> tuple[str, ...]:
    """Return the texts of a list."""
    return tuple(any_text(one, what) for one in elements(value, what))
