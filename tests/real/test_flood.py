"""Bounded runs of ``benchmarks.flood``: every line a guest writes is read, or counted as lost."""

from __future__ import annotations

import pytest

from benchmarks.common import Home
from benchmarks.flood import FEW, Place, Run, booted, follow
from tests.qemus import require

pytestmark = pytest.mark.qemu

#: Lines a second that no qtctl formats; a guest with a processor to itself writes more.
PACE = 250_000


def run(place: Place, where: str | None, seconds: float) -> Run:
    """Flood and follow; again where the machine was too busy to count beside qtctl."""
    require("path")
    for _ in range(3):
        with Home() as home, booted(place) as guest:
            done = follow(guest, home, place, seconds, where=where)
        if not done.blind:
            break
    if done.blind:
        pytest.skip("this machine is too busy to count a spool's lines beside qtctl")
    return done


@pytest.mark.parametrize("place", ["spool", "file"])
def test_every_line_of_a_flood_is_read_or_counted(place: Place) -> None:
    done = run(place, FEW, 8)
    assert not done.problems, done
    assert done.written > 100_000


def test_what_cannot_be_shown_in_time_is_counted() -> None:
    done = run("spool", None, 4)
    assert not done.problems, done
    # A guest that gets little of the processors is slow enough for every record to be shown.
    assert done.lost > 0 or done.written / done.seconds < PACE, done
