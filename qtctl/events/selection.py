"""Ordered selections of events: patterns and named sets, whose files are read when one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qtctl.errors import UsageError
from qtctl.events.patterns import Rule, is_pattern, matcher, set_name, sets_in, words_of
from qtctl.events.sets import check_chain, read_set


@dataclass(frozen=True, slots=True)
class Selection:
    """Patterns in order, each taking in or leaving out; the last that matches a name decides.

    ``sets`` holds what each named set in ``rules`` selects; those that are not given are read when
    the selection is made.

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
    def of(cls, *patterns: str) -> Selection:
        """Select what any of ``patterns`` matches."""
        return cls(tuple((True, pattern) for pattern in patterns))

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def included(self) -> tuple[str, ...]:
        """The patterns that take names in."""
        return tuple(pattern for include, pattern in self.rules if include)

    @property
    def plain(self) -> bool:
        """Whether only plain names are taken in and none left out."""
        return not self.sets and all(inc and not is_pattern(pattern) for inc, pattern in self.rules)

    def pick(self, names: Iterable[str]) -> list[str]:
        """Return the names selected, in the order given."""
        return list(filter(self._test(), names))

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """Return the patterns that take in nothing among ``names``."""
        return [p for p in self.included if not any(map(self._matcher(p), names))]

    def words(self) -> list[str]:
        """Return the rules as an events file spells them: ``-`` in front leaves out."""
        return words_of(self.rules)

    def _test(self) -> Callable[[str], bool]:
        tests = [(include, self._matcher(pattern)) for include, pattern in reversed(self.rules)]
        return lambda name: next((include for include, test in tests if test(name)), False)

    def _matcher(self, pattern: str) -> Callable[[str], bool]:
        name = set_name(pattern)
        return matcher(pattern) if name is None else self.sets[name]._test()


def members(name: str, above: Sequence[str] = ()) -> Selection:
    """Return what a set selects, with the sets that it names itself; ``above`` are those around it.

    Raises:
        UsageError: one of the sets is missing or cannot be read, or a set contains itself.
    """
    check_chain(name, above)
    rules = read_set(name).rules
    return Selection(rules, {one: members(one, (*above, name)) for one in sets_in(rules)})


def flat(selection: Selection) -> list[Rule]:
    """Return rules without sets that select the same, as QEMU itself can read them.

    Raises:
        UsageError: a set that leaves something out stands where QEMU, which reads an events file
            from top to bottom, would leave that out of what stands before it as well.
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
