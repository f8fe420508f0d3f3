"""Deciding what a flood is and whom to quiet: any rates, any order of readings."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.flood import (
    BUDGET_BYTES_PER_S,
    BUDGET_PER_S,
    PATIENCE_S,
    Backlog,
    EventRates,
    FloodDetector,
    Verdict,
    loudest,
)
from qtctl.model import Budget

RATES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**7), max_size=8)


def heard(rates: Mapping[str, float], size: float = 1) -> EventRates:
    """Events of one size, in bytes."""
    return EventRates(rates, {name: size * per_s for name, per_s in rates.items()})


@given(RATES, st.integers(0, 10**7))
def test_the_fewest_and_loudest_are_taken(rates: dict[str, int], allowed: int) -> None:
    taken = dict(loudest(rates, allowed))
    kept = {name: per_s for name, per_s in rates.items() if name not in taken}
    assert sum(kept.values()) <= allowed
    assert all(rates[name] == per_s for name, per_s in taken.items())
    assert min(taken.values(), default=0) >= max(kept.values(), default=0) or not taken
    if taken:  # one less would not do
        assert sum(kept.values()) + min(taken.values()) > allowed


@given(st.lists(st.tuples(st.floats(0.05, 1.5), RATES), max_size=40), st.integers(1, 10**6))
def test_a_guard_acts_whenever_it_is_passed(
    steps: list[tuple[float, dict[str, int]]], guard: int
) -> None:
    pilot, now, quieted = FloodDetector(Budget(guard)), 0.0, dict[str, float]()
    for passed, rates in steps:
        now += passed
        loud = {n: r for n, r in rates.items() if quieted.get(n, 0) <= now}
        verdict = pilot.judge(now, heard(rates))
        if sum(loud.values()) > guard:
            assert verdict is not None
            assert verdict.guarded
            assert verdict.loudest == tuple(loudest(loud, guard))
            quieted |= {name: now + 2 for name, _ in verdict.loudest}
        else:
            assert verdict is None or not verdict.guarded


@given(st.lists(st.tuples(st.floats(0.05, 1.5), st.integers(0, 4 * BUDGET_PER_S)), max_size=60))
def test_a_flood_is_told_once_and_when_it_has_lasted(steps: list[tuple[float, int]]) -> None:
    pilot, now, began, told = FloodDetector(), 0.0, None, False
    for passed, per_s in steps:
        now += passed
        verdict = pilot.judge(now, heard({"a": per_s}))
        if per_s <= BUDGET_PER_S:
            began, told = None, False
        elif began is None:
            began = now
        due = began is not None and now - began >= PATIENCE_S and not told
        assert (verdict is not None) == due
        if due:
            told = True
            assert verdict == Verdict(per_s, per_s, (("a", per_s),), False)


def test_what_was_switched_off_still_sounds_for_a_moment() -> None:
    pilot = FloodDetector(Budget(100))
    assert pilot.judge(1.0, heard({"a": 900.0, "b": 90.0})) is not None
    assert pilot.judge(1.1, heard({"a": 800.0, "b": 90.0})) is None
    late = pilot.judge(4.0, heard({"a": 800.0, "b": 90.0}))
    assert late is not None, "somebody switched it on again"


@given(RATES, RATES, st.integers(0, 10**7), st.integers(0, 10**7))
def test_events_and_bytes_are_both_within_the_budget(
    events: dict[str, int], sizes: dict[str, int], per_s: int, bytes_per_s: int
) -> None:
    said = EventRates(events, {name: sizes.get(name, 0) for name in events})
    budget = Budget(per_s, bytes_per_s)
    loud = said.over(budget)
    assert not said.without(loud).exceed(budget)
    assert len(set(loud)) == len(loud)
    assert bool(loud) == said.exceed(budget)


def test_few_events_of_many_bytes_are_a_flood() -> None:
    long = heard({"a": 100.0, "b": 3.0}, BUDGET_BYTES_PER_S / 100)
    pilot = FloodDetector()
    assert pilot.judge(1.0, long) is None
    told = pilot.judge(1.0 + PATIENCE_S, long)
    assert told == Verdict(103.0, 1.03 * BUDGET_BYTES_PER_S, (("a", 100.0),), False)
    guarded = FloodDetector(Budget(bytes_per_s=1e6)).judge(1.0, long)
    assert guarded is not None
    assert guarded.guarded
    assert [name for name, _ in guarded.loudest] == ["a", "b"]


def test_who_reads_nothing_hears_how_much_is_said() -> None:
    stalled = Backlog(0.0, 0, 0)
    stalled.factor(0.5, taken=1000, behind=0, read=10, lost=0)
    for tenth in range(6, 30):
        stalled.factor(tenth / 10, taken=1000, behind=(tenth - 5) * 5000, read=10, lost=0)
    assert round(stalled.logged_per_s) == 50_000


def test_who_reads_slowly_hears_less_than_is_said() -> None:
    fair = Backlog(0.0, 0, 0)
    assert fair.factor(0.1, taken=1000, behind=0, read=10, lost=0) == 1
    slow = Backlog(0.0, 0, 0)
    assert slow.factor(0.1, taken=1000, behind=3000, read=10, lost=0) == 4
    # A reader that stands still: what was read in the last second tells the share.
    assert slow.factor(0.5, taken=1000, behind=9000, read=10, lost=0) == 10
    skipping = Backlog(0.0, 0, 0)
    assert skipping.factor(0.1, taken=4000, behind=0, read=10, lost=30) == 4
    catching_up = Backlog(0.0, 0, 5000)
    assert catching_up.factor(0.1, taken=10_000, behind=0, read=50, lost=0) == 0.5
    assert catching_up.factor(9.0, taken=10_000, behind=0, read=50, lost=0) == 1
