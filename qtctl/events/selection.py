"""Ordered selections of events: patterns and named sets, whose files are read when one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qtctl.errors import UsageError
from qtctl.events.patterns import Rule, is_pattern, matcher, set_name, sets_in, words_of
from qtctl.events.sets import check_chain, read_set


@dataclass(frozen=True, slots=True)
class Selection:
    """Rules in order, each including or excluding events; the last that matches a name decides.

    ``sets`` holds the selection of each named set in ``rules``; those that are not given are read
    when the selection is made.

    Raises:
        UsageError: there is no such set, or it cannot be read.
    """

    rules: tuple[Rule, ...] = ()
    sets: Mapping[str, Selection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = sets_in(self.rules)
        if not named <= self.sets.keys():
            object.__setattr__(self, "sets", {name: members(name) for name in named})

    @classmethod
    def of(cls, *patterns: str | Selection) -> Selection:
        """Select what any of ``patterns`` matches; a selection among them adds its rules."""
        parts = (((True, one),) if isinstance(one, str) else one.rules for one in patterns)
        return cls(tuple(rule for part in parts for rule in part))

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def included(self) -> tuple[str, ...]:
        """The patterns of the rules that include."""
        return tuple(pattern for include, pattern in self.rules if include)

    @property
    def plain(self) -> bool:
        """Whether all rules include plain names."""
        return not self.sets and all(inc and not is_pattern(pattern) for inc, pattern in self.rules)

    def pick(self, names: Iterable[str]) -> list[str]:
        """Return the selected names, in the order given."""
        return list(filter(self._test(), names))

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """Return the including patterns that match none of ``names``."""
        return [p for p in self.included if not any(map(self._matcher(p), names))]

    def words(self) -> list[str]:
        """Return the rules in the syntax of an events file: a leading ``-`` excludes."""
        return words_of(self.rules)

    def _test(self) -> Callable[[str], bool]:
        tests = [(include, self._matcher(pattern)) for include, pattern in reversed(self.rules)]
        if len(tests) == 1 and tests[0][0]:
            return tests[0][1]
        return lambda name: next((include for include, test in tests if test(name)), False)

    def _matcher(self, pattern: str) -> Callable[[str], bool]:
        name = set_name(pattern)
        return matcher(pattern) if name is None else self.sets[name]._test()


def members(name: str, above: Sequence[str] = ()) -> Selection:
    """Return the selection of a set and of the sets nested in it; ``above`` are those around it.

    Raises:
        UsageError: one of the sets is missing or cannot be read, or a set contains itself.
    """
    check_chain(name, above)
    rules = read_set(name).rules
    return Selection(rules, {one: members(one, (*above, name)) for one in sets_in(rules)})


def flat(selection: Selection) -> list[Rule]:
    """Return equivalent rules without sets, for QEMU's own events files.

    Raises:
        UsageError: a set that excludes events follows a rule that includes some. QEMU reads an
            events file from top to bottom, so it would exclude them from that rule as well.
    """
    rules: list[Rule] = []
    for include, pattern in selection.rules:
        name = set_name(pattern)
        if name is None:
            rules.append((include, pattern))
            continue
        inner = flat(selection.sets[name])
        leaves_out = not all(taken for taken, _ in inner)
        if leaves_out and (not include or any(taken for taken, _ in rules)):
            raise UsageError(
                f"@{name} leaves out events, so QEMU can read it only as the first line of a set",
                hint=f"put @{name} first, or its patterns in its place",
            )
        rules += inner if include else [(False, each) for _, each in inner]
    return rules
