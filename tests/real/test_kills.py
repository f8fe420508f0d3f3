"""A bounded run of ``benchmarks.kills``: whatever moment a SIGKILL hits, the guest comes back."""

from __future__ import annotations

import pytest

from benchmarks.common import Home
from benchmarks.kills import booted, kills
from tests.qemus import require

pytestmark = pytest.mark.qemu


def test_a_killed_tail_leaves_nothing_that_the_next_run_does_not_give_back() -> None:
    require("path")
    with Home() as home, booted() as guest:
        done = list(kills(guest, home, count=15, seed=7))
    assert len(done) == 15
    assert [kill for kill in done if kill.problems] == []
