"""The ust backend on a real QEMU that has it: follow, leave out, give back, also after a kill."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from qtctl.backends.ust.daemons import MARK, marked
from tests import needs
from tests.provider.lttng import recording
from tests.qemus import Qemu, RealGuest, require
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

ROUND = ["virtio_blk_handle_read", "virtio_blk_rw_complete", "virtio_blk_req_complete"]
#: A guest whose session daemon went away looks for the next one only every 5 s.
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def qemu() -> Qemu:
    needs.lttng()
    return require("built")


@pytest.fixture
def guest(qemu: Qemu) -> Iterator[RealGuest]:
    extra = ["-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
    with RealGuest(qemu, image="virtio-blk", extra=extra) as running:
        yield running


class OwnTemp(Qtctl):
    """A qtctl whose LTTng folders lie in its own home, apart from those of others."""

    def environment(self, env: Mapping[str, str | None] | None = None) -> dict[str, str]:
        return {**super().environment(env), "TMPDIR": str(self.home)}

    def left_over(self) -> list[str]:
        """Name what it left of a session: its daemons bear its folder's name."""
        folders = [str(path) for path in self.home.glob(f"{MARK}*")]
        return folders + ["lttng-sessiond"] * bool(marked(str(self.home), "lttng-sessiond"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[OwnTemp]:
    with OwnTemp(tmp_path / "home") as qtctl_command:
        yield qtctl_command


def tail(guest: RealGuest, *words: str) -> tuple[str, ...]:
    return ("-t", guest.address, "tail", *words, "--backend", "ust", "--ndjson")


def test_it_follows_what_is_picked_and_gives_back(guest: RealGuest, run: OwnTemp) -> None:
    words = ("virtio_blk_*", "virtio_queue_notify", "--except", "virtio_queue_n*")
    ran = run(*tail(guest, *words, "--max-events", "300"), limit=LIMIT_S).said(0)
    found = [json.loads(text) for text in ran.out.splitlines()]
    events = [one for one in found if one["type"] == "event"]
    assert len(events) == 300
    names = [one["name"] for one in events]
    assert set(names) == set(ROUND)
    start = names.index(ROUND[0])
    assert names[start : start + 270] == ROUND * 90
    read = events[start]
    assert read["args"]["nsectors"] == 1
    assert read["args"]["vdev"] > 1 << 32
    assert (read["pid"], read["backend"], read["clock"]) == (guest.pid, "ust", "realtime")
    assert found[-1] == {
        "type": "summary", "read": 300, "shown": 300, "filtered": 0, "unread": 0, "lost": 0,
        "unknown_losses": 0,
    }  # fmt: skip
    assert run.left_over() == []
    assert run.leases() == []
    listed = run("-t", guest.address, "list", "--state", "enabled", "--json").said(0)
    assert json.loads(listed.out)["events"] == [], "QEMU's own states are not touched"


def test_everything_at_once_adds_up(guest: RealGuest, run: OwnTemp) -> None:
    words = ("*", "--duration", "500ms", "--where", "event == 'virtio_blk_handle_read'")
    ran = run(*tail(guest, *words), limit=LIMIT_S).said(0)
    found = [json.loads(text) for text in ran.out.splitlines()]
    summary = found[-1]
    lost = [one["count"] for one in found if one["type"] == "loss"]
    assert summary["read"] == summary["shown"] + summary["filtered"]
    assert summary["shown"] == sum(one["type"] == "event" for one in found) > 0
    assert summary["lost"] == sum(count for count in lost if count is not None)
    assert run.left_over() == []


def test_what_a_killed_run_left_is_ended_by_the_next(guest: RealGuest, run: OwnTemp) -> None:
    running = run.start(*tail(guest, "virtio_blk_*"))
    running.wrote(b"virtio_blk_req_complete")
    assert run.left_over()
    running.signal(signal.SIGKILL)
    running.finish(LIMIT_S)
    run("-t", guest.address, "status", limit=LIMIT_S).said(0)
    assert run.left_over() == []
    assert run.leases() == []


def test_sigterm_ends_it_in_good_order(guest: RealGuest, run: OwnTemp) -> None:
    running = run.start(*tail(guest, "virtio_blk_*"))
    running.wrote(b"virtio_blk_req_complete")
    running.signal(signal.SIGTERM)
    ran = running.finish(LIMIT_S)
    assert json.loads(ran.out.splitlines()[-1])["type"] == "summary"
    assert run.left_over() == []


def test_two_at_once_end_apart(guest: RealGuest, run: OwnTemp) -> None:
    one = run.start(*tail(guest, "virtio_blk_*"))
    one.wrote(b"virtio_blk_req_complete")
    second = str(guest.directory / "second.sock")
    words = ("tail", "virtio_queue_notify", "--backend", "ust", "--max-events", "5", "--ndjson")
    other = run("-t", second, *words, limit=LIMIT_S).said(0)
    assert other.out.count('"virtio_queue_notify"') == 6
    before = len(one.out)
    eventually(lambda: len(one.out) > before, "the first goes on")
    one.signal(signal.SIGINT)
    one.finish(LIMIT_S)
    assert b"virtio_queue_notify" not in one.out
    assert run.left_over() == []


def test_a_guest_that_is_killed_is_told(guest: RealGuest, run: OwnTemp) -> None:
    running = run.start(*tail(guest, "virtio_blk_*"))
    running.wrote(b"virtio_blk_req_complete")
    guest.process.kill()
    running.finish(LIMIT_S).said(5, "lost")
    assert run.left_over() == []


def test_a_folder_of_lttng_s_says_what_the_log_says(
    qemu: Qemu, run: OwnTemp, tmp_path: Path
) -> None:
    extra = ["-msg", "timestamp=on", "-D", "{dir}/qemu.log"]
    folder, out = tmp_path / "lttng", tmp_path / "log"
    with (
        RealGuest(qemu, image="sectors", extra=extra) as guest,
        recording(folder, guest.pid, "virtio_blk_*", "virtio_queue_notify"),
    ):
        words = ["record", "virtio_blk_*", "virtio_queue_notify", "--backend", "log"]
        words += ["--max-events", "2000", "-o", str(out)]
        run("-t", guest.address, *words, limit=LIMIT_S).said(0, "0 lost")
    found = []
    for path in (folder, out):
        ran = run("replay", str(path), "--ndjson", limit=LIMIT_S).said(0, "0 lost")
        every = [one for line in ran.out.splitlines() if (one := json.loads(line))]
        found.append([(one["name"], one["args"]) for one in every if one["type"] == "event"])
    traced, logged = found
    # QMP switches one event after the other: the log's first records lack some.
    begin = next(n for n, one in enumerate(logged) if n > 100 and "sector" in one[1])
    first = traced.index(logged[begin])
    assert traced[first : first + len(logged) - begin] == logged[begin:]
    pairs = ("latency", "virtio_blk_handle_read", "virtio_blk_req_complete", "--json", "--from")
    both = [json.loads(run(*pairs, str(path), limit=LIMIT_S).said(0).out) for path in (folder, out)]
    assert both[0]["count"] >= both[1]["count"] > 400
    run("diff", str(folder), str(out), limit=LIMIT_S).said(0)


def test_switching_says_what_qmp_cannot_do(guest: RealGuest, run: OwnTemp) -> None:
    said = "do not look at these states: events there fire whenever a tracer is attached"
    run("-t", guest.address, "enable", "virtio_blk_handle_read", "--dry-run").said(0, said)
    status = run("-t", guest.address, "status", "--json").said(0)
    assert said in json.loads(status.out)["states_note"]
    assert said in run("-t", guest.address, "status").said(0).out
