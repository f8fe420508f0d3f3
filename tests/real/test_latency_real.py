"""``qtctl latency`` on real guests: live, and on the file of the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemus import LABELS, RealGuest, require
from tests.running import Qtctl

pytestmark = pytest.mark.qemu

VERB = ("latency", "virtio_blk_handle_read", "virtio_blk_req_complete")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Qtctl]:
    with Qtctl(tmp_path / "home") as command:
        yield command


@pytest.mark.parametrize("label", LABELS)
def test_live_on_the_log(label: str, run: Qtctl) -> None:
    with RealGuest(require(label), image="virtio-blk", extra=["-msg", "timestamp=on"]) as guest:
        words = ("-t", guest.address, *VERB, "--duration", "1s", "--json")
        found = json.loads(run(*words, limit=None).said(0, "the same vdev and req", "0 lost").out)
        assert found["count"] > 10
        # START and END go on and off one after the other, in the middle of requests.
        assert found["unpaired"] + found["reused"] < found["count"]
        assert found["in_flight"] <= 1
        assert found["disordered"] == found["unreadable"] == 0
        assert 0 < found["p50"] <= found["p99"] <= found["max"]
        listed = run("-t", guest.address, "list", "--state", "enabled").said(0)
        assert listed.out == ""
        assert run.leases() == []


def test_the_simple_backend_and_its_file_agree(run: Qtctl) -> None:
    with RealGuest(require("built"), image="virtio-blk", extra=["-trace", "file={dir}/own"]) as one:
        words = ("-t", one.address, *VERB, "--backend", "simple", "--duration", "1s", "--json")
        live = json.loads(run(*words, limit=None).said(0, "0 lost").out)
        file = run(*VERB, "--from", str(one.directory / "own"), "--json", limit=None).said(0)
    assert live["count"] > 10
    same = ("count", "max", "mean", "histogram", "unpaired")
    assert {key: json.loads(file.out)[key] for key in same} == {key: live[key] for key in same}
