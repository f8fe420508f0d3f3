"""What a lease holds is what was switched, no more."""

from __future__ import annotations

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl

EVENT = "virtio_blk_handle_read"


def test_a_refused_switch_leaves_no_lease(qtctl: Qtctl, fake: FakeProcess) -> None:
    fake.tell(faults=["error-reply:trace-event-set-state"])
    qtctl("-t", fake.address, "enable", EVENT).said(1, "refused trace-event-set-state")
    assert qtctl.leases() == []
    fake.tell(faults=[])
    qtctl("-t", fake.address, "enable", EVENT).said(0)
    assert [path.name for path in qtctl.leases()] == ["standing.json"]
    qtctl("-t", fake.address, "restore").said(0)
    assert fake.tell()["enabled"] == []
    assert qtctl.leases() == []
