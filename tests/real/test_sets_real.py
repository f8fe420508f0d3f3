"""Shipped event sets on real QEMUs: QEMU reads what is printed as qtctl reads the set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.qemus import LABELS, RealGuest, require
from tests.running import Qtctl

pytestmark = pytest.mark.qemu


@pytest.mark.parametrize("label", LABELS)
def test_qemu_reads_a_printed_set_as_qtctl_does(label: str, tmp_path: Path) -> None:
    qemu = require(label)
    with (
        Qtctl(tmp_path / "home") as qtctl,
        # The file is read when QEMU starts, so it has to lie where QEMU sees it before.
        RealGuest(qemu, image="ports", busy=True) as plain,
    ):
        every = [one["name"] for one in json.loads(qtctl("--json", "sets").out)["sets"]]
        printed = qtctl("sets", *every).said(0).out
        words = plain.directory / "all.events"
        words.write_text(printed)
        expected = qtctl("-t", plain.address, "list", *(f"@{name}" for name in every)).said(0).out
        states = (line.split("\t") for line in expected.splitlines())
        names = {name for name, state in states if state != "unavailable"}
        # The simple backend would write a file where the test runs; a guest at rest writes little.
        trace = f"events={plain.inside('all.events')},file={{dir}}/trace"
        traced = ("-S", "-trace", trace)
        with RealGuest(qemu, image="ports", busy=True, extra=traced) as guest:
            on = qtctl("-t", guest.address, "list", "--state", "enabled").said(0).out
    assert {line.split("\t")[0] for line in on.splitlines()} == names
    assert len(names) > 1000
