"""The length of runs whose times are jittery, step back, or are anything at all."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from qtctl.analysis.spans import STEP_NS, Span

S = 1_000_000_000


def spanned(times: list[int], size: int = 3) -> Span:
    span = Span()
    for at in range(0, len(times), size):
        span.take(np.array(times[at : at + size], np.int64))
    return span


def naive(times: list[int]) -> tuple[int, int, int]:
    """Return steps, the greatest, and the length."""
    runs: list[list[int]] = []
    steps = []
    for before, one in zip([None, *times], times, strict=False):
        if before is None or before - one > STEP_NS:
            runs.append([])
            steps += [] if before is None else [before - one]
        runs[-1].append(one)
    return len(steps), max(steps, default=0), sum(max(run) - min(run) for run in runs)


def test_a_clock_that_is_set_back_makes_no_run_longer() -> None:
    found = spanned([0, S, 2 * S, -3600 * S, -3599 * S])
    assert (found.steps, found.back_ns, found.length_ns) == (1, 3602 * S, 3 * S)


def test_threads_that_are_a_little_apart_are_no_step() -> None:
    found = spanned([0, 500, 400, 900, 899])
    assert (found.steps, found.length_ns) == (0, 900)
    assert Span().length_ns == 0


@given(st.lists(st.integers(-5 * S, 5 * S)), st.integers(1, 10))
def test_it_is_what_a_plain_loop_finds(times: list[int], size: int) -> None:
    found = spanned(times, size)
    assert (found.steps, found.back_ns, found.length_ns) == naive(times)


@given(st.lists(st.integers(-(2**62), 2**62)))
@example([-(2**62), 2**62, 0])
def test_hostile_times_do_not_raise(times: list[int]) -> None:
    assert spanned(times).length_ns >= 0
