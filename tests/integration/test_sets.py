"""The verb sets, and @NAME wherever a pattern stands, over a fake QEMU's monitor."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl
from tests.samples import capture


def enabled(fake: FakeProcess) -> set[str]:
    """Return what is on."""
    return set(fake.tell()["enabled"])


def listed(qtctl: Qtctl, fake: FakeProcess, *patterns: str) -> set[str]:
    """Return the events that list shows."""
    ran = qtctl("-t", fake.address, "list", "--json", *patterns).said(0)
    return {event["name"] for event in json.loads(ran.out)["events"]}


def test_a_set_stands_wherever_a_pattern_does(
    qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    blk = listed(qtctl, fake, "@virtio-blk")
    assert blk == listed(qtctl, fake, "virtio_blk_*")
    assert listed(qtctl, fake, "virtio_*", "--except", "@virtio-blk") & blk == set()
    assert listed(qtctl, fake, "--", "virtio_*", "-@virtio-blk") & blk == set()
    qtctl("-t", fake.address, "enable", "@virtio-blk", "--except", "virtio_blk_req*").said(0)
    assert enabled(fake) == {name for name in blk if "_req" not in name}
    qtctl("-t", fake.address, "disable", "@virtio-blk").said(0)
    assert not enabled(fake)
    path = folder / "mine"
    path.write_text("@virtio-blk\n-@virtio-net\n")
    qtctl("-t", fake.address, "enable", "--file", str(path)).said(0)
    assert enabled(fake) == blk
    ran = qtctl("-t", fake.address, "tail", "--ndjson", "@virtio-blk", "--duration", "50ms").said(0)
    began = json.loads(ran.out.splitlines()[0])
    assert (began["patterns"], began["changed"]) == (["@virtio-blk"], 0)


def test_a_set_in_wait_and_replay(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, declared: Path
) -> None:
    qtctl("-t", fake.address, "wait", "@virtio-blk", "--timeout", "50ms").said(124, "@virtio-blk")
    trace = folder / "trace"
    trace.write_bytes(capture("qemu-7.2-simple-v4.bin"))
    replay = ("--events-all", str(declared), "replay", str(trace), "--ndjson")
    by_set = qtctl(*replay, "@virtio-blk", "--max-events", "20").said(0)
    by_pattern = qtctl(*replay, "virtio_blk_*", "--max-events", "20").said(0)
    assert by_set.out == by_pattern.out != ""


def test_sets_lists_prints_and_saves(qtctl: Qtctl, folder: Path) -> None:
    rows = [line.split("\t") for line in qtctl("sets").said(0).out.splitlines()]
    assert [row for row in rows if row[0] == "@virtio-blk" and row[2] == "shipped"]
    assert (
        qtctl("sets", "--save", "@mine", "@cpr", "b*", "--except", "bc")
        .said(0)
        .out.startswith("@mine: 3 patterns in ")
    )
    [mine] = [s for s in json.loads(qtctl("--json", "sets").out)["sets"] if s["own"]]
    assert (mine["name"], mine["patterns"]) == ("mine", ["@cpr", "b*", "-bc"])
    assert Path(mine["path"]).parent == qtctl.home / ".config/qtctl/sets"
    assert qtctl("sets", "mine").said(0).out.splitlines()[1:] == ["cpr_*", "b*", "-bc"]
    qtctl("sets", "--save", "mine", "x").said(2, "exists", "--force")
    qtctl("sets", "--save", "mine", "x", "--force").said(0)
    assert qtctl("sets", "@mine").out.splitlines()[1:] == ["x"]
    Path(mine["path"]).write_text("x\ntwo words\n")
    assert "@nvme" in qtctl("sets").said(1, mine["path"], "line 2").out
    qtctl("sets", "mine").said(2, mine["path"], "line 2")


def test_wrong_sets_are_told_before_anything_is_switched(
    qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    for verb in ("list", "enable", "disable", "tail", "wait"):
        ran = qtctl("-t", fake.address, verb, "@virtio-blc").said(2, "@virtio-blc", "@virtio-blk")
        assert not ran.out
    path = folder / "events"
    path.write_text("@nosuch\n")
    qtctl("-t", fake.address, "enable", "--file", str(path)).said(2, "@nosuch")
    qtctl("-t", fake.address, "enable", "x", "--except", "@nosuch").said(2, "@nosuch")
    qtctl("sets", "virtio_blk*").said(2, "cannot name")
    qtctl("sets", "--force").said(2, "--save")
    qtctl("sets", "--save", "x").said(2, "needs a PATTERN")
    qtctl("sets", "--save", "../x", "y").said(2, "cannot name")
    assert not enabled(fake)
    assert not [c for c in fake.tell()["commands"] if c["execute"] == "trace-event-set-state"]
