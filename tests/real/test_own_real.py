"""QEMU traces qtctl's own requests, too: they are left out, and those of other clients stay."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.qemus import RealGuest, require
from tests.running import Qtctl

pytestmark = pytest.mark.qemu

TRAFFIC = ("handle_qmp_", "handle_hmp_", "monitor_", "qmp_", "visit_")


@pytest.fixture(params=["log", "log with times", "simple"])
def guest(request: pytest.FixtureRequest) -> Iterator[tuple[RealGuest, tuple[str, ...]]]:
    """Yield an idle guest, and the options that follow it through a backend."""
    backend, _, times = request.param.partition(" ")
    qemu = require("built" if backend == "simple" else "path")
    extra = ["-msg", "timestamp=on"] if times else []
    with RealGuest(qemu, image="idle", extra=extra) as started:
        yield started, ("-t", started.address, "tail", "--backend", backend, "--ndjson")


def names(out: str) -> tuple[Counter[str], dict[str, Any]]:
    *records, summary = map(json.loads, out.splitlines())
    found = Counter(one["name"] for one in records if one["type"] == "event")
    return Counter({n: c for n, c in found.items() if n.startswith(TRAFFIC)}), summary


@pytest.mark.parametrize("pattern", ["*", "qmp_*", "monitor_*", "handle_*mp_command"])
def test_own_requests_are_left_out(
    guest: tuple[RealGuest, tuple[str, ...]], run: Qtctl, pattern: str
) -> None:
    _, tail = guest
    found, summary = names(run(*tail, pattern, "--duration", "1s", limit=None).said(0).out)
    assert not found
    assert summary["own"] > 0
    shown, summary = names(run(*tail, pattern, "--own", "--duration", "1s", limit=None).said(0).out)
    assert shown
    assert "own" not in summary


@pytest.mark.parametrize("label", ["unpacked", "rooted"])
def test_own_requests_of_newer_qemus_are_left_out(label: str, run: Qtctl) -> None:
    with RealGuest(require(label), image="idle", extra=["-msg", "timestamp=on"]) as started:
        tail = run("-t", started.address, "tail", "*", "--ndjson", "--duration", "1s", limit=None)
    found, summary = names(tail.said(0).out)
    assert not found
    assert summary["own"] > 0
    assert "perhaps_own" not in summary


def test_requests_of_other_clients_stay(
    guest: tuple[RealGuest, tuple[str, ...]], run: Qtctl
) -> None:
    started, tail = guest
    following = run.start(*tail, "*")
    following.said("Ctrl-C gives back")
    for _ in range(3):
        run("-t", started.address, "qmp", "query-status").said(0)
    following.signal(signal.SIGINT)
    found, _ = names(following.finish(None).said(130).out)
    for name in (
        "handle_qmp_command",
        "monitor_qmp_cmd_in_band",
        "qmp_enter_query_status",
        "qmp_exit_query_status",
        "monitor_qmp_respond",
    ):
        assert found[name] == 3, found
    assert found["monitor_suspend"] == 6
