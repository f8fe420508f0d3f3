"""The verb probe against a fake QEMU: what cannot be right, and what says nothing."""

from __future__ import annotations

import json

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl


def test_what_cannot_be_probed(qtctl: Qtctl, fake: FakeProcess) -> None:
    target = ("-t", fake.address)
    qtctl(*target, "probe").said(2, "probe needs a PATTERN")
    qtctl(*target, "probe", "nosuch_*").said(3, "nosuch_*")
    qtctl(*target, "probe", "@nosuch").said(2, "@nosuch")
    qtctl(*target, "probe", "virtio_*", "--each", "soon").said(2, "soon")
    assert not fake.tell()["enabled"]
    assert not [c for c in fake.tell()["commands"] if c["execute"] == "trace-event-set-state"]


def test_silence_has_a_price_too(qtctl: Qtctl, fake: FakeProcess) -> None:
    qtctl("-t", fake.address, "enable", "virtio_notify").said(0)
    ran = qtctl("-t", fake.address, "probe", "virtio_*", "--each", "20ms", "--json", limit=None)
    document = json.loads(ran.said(0, "logged nothing").out)
    assert document["complete"]
    assert {event["per_s"] for event in document["events"]} == {0}
    assert len(document["events"]) > 50
    ran = qtctl("-t", fake.address, "probe", "virtio_*", "--each", "20ms", limit=None)
    assert ran.said(0).out == ""
    assert fake.tell()["enabled"] == ["virtio_notify"]
    qtctl("-t", fake.address, "restore").said(0)
