"""Kernel events beside the backends of real guests: ``--kernel``."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qtctl
from qtctl.records.batch import Batch
from tests import tracing
from tests.qemus import RealGuest, require
from tests.running import Qtctl

pytestmark = pytest.mark.qemu
STAMPED = ("-D", "{dir}/log", "-msg", "timestamp=on")
_CASES = 100_000
_LIMIT_S = 8.0
_COARSE_NS = 1_500
"""The log has whole microseconds, and the offset of the clocks is measured."""


@pytest.fixture(autouse=True)
def traceable() -> None:
    tracing.need()


@pytest.fixture
def guest() -> Iterator[RealGuest]:
    with RealGuest(require("path"), image="virtio-blk", extra=STAMPED) as started:
        yield started


def events(out: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in out.splitlines()]
    return [one for one in found if one["type"] == "event"]


def test_a_log_has_kernel_events_between_its_lines(guest: RealGuest, run: Qtctl) -> None:
    words = ("tail", "virtio_blk_*", "--kernel", "sched:sched_switch", "--max-events", "3000")
    ran = run("-t", guest.address, *words, "--ndjson", limit=None).said(0, "-kernel", "to within")
    found = events(ran.out)
    threads = {int(path.name) for path in Path(f"/proc/{guest.pid}/task").iterdir()}
    switches = [one for one in found if one["name"] == "sched:sched_switch"]
    assert switches and len(switches) < len(found)
    assert {one["backend"] for one in switches} == {"ftrace"}
    assert all({one["args"]["prev_pid"], one["args"]["next_pid"]} & threads for one in switches)
    times = [one["time_ns"] for one in found]
    assert times == sorted(times)


def test_their_arguments_are_like_any_others(guest: RealGuest, run: Qtctl, tmp_path: Path) -> None:
    target = ("-t", guest.address)
    where = ("--where", "event != 'sched:sched_switch' or prev_prio == 120")
    kept = tmp_path / "kept.qtr"
    words = ("record", "virtio_blk_*", "--kernel", "sched:sched_*", *where, "--duration", "1s")
    run(*target, *words, "-o", str(kept), limit=None).said(0)
    by = ("count", "sched:sched_switch", "--by", "prev_comm", "--json")
    for source in (("--from", str(kept)), (*target, "--duration", "1s")):
        given = source if source[0] == "--from" else source[2:]
        ran = run(*(source[:2] if given is not source else ()), *by, *given, limit=None).said(0)
        assert json.loads(ran.out)["count"] > 0
    query = 'SELECT count(*) AS n, min(prev_prio) AS p FROM "sched:sched_switch"'
    asked = json.loads(run("query", query, str(kept), "--json").said(0).out)
    assert asked[0]["n"] > 0 and asked[0]["p"] == 120
    pair = ("latency", "sched:sched_switch", "sched:sched_switch", "--key", "none", "--json")
    ran = run(*target, *pair, "--duration", "1s", limit=None).said(0)
    assert json.loads(ran.out)["count"] > 0
    beside = ("count", "virtio_blk_*", "--kernel", "sched:sched_switch", "--duration", "1s")
    groups = json.loads(run(*target, *beside, "--json", limit=None).said(0).out)["groups"]
    assert {"sched:sched_switch", "virtio_blk_req_complete"} <= {one["value"] for one in groups}


def test_a_log_without_times_gets_the_kernels(run: Qtctl) -> None:
    with RealGuest(require("path"), image="virtio-blk", extra=("-D", "{dir}/log")) as guest:
        words = ("tail", "virtio_blk_*", "--kernel", "sched:sched_switch", "--max-events", "500")
        ran = run("-t", guest.address, *words, "--ndjson", limit=None).said(0, "to within")
        clocks = [one["clock"] for one in events(ran.out)]
        # On a busy machine a few lines are not proven to be of a write.
        assert clocks.count("realtime") > 0.9 * len(clocks)
        ran = run("-t", guest.address, *words, "--ndjson", "--clock", "arrival", limit=None)
        assert {one["clock"] for one in events(ran.said(0).out)} == {"arrival", "realtime"}
        assert "--clock auto" in ran.err


def test_after_sigkill_nothing_is_left(guest: RealGuest, run: Qtctl) -> None:
    running = run.start("-t", guest.address, "tail", "virtio_blk_*", "--kernel", "sched:*")
    running.wrote(b"sched:sched_switch")
    assert tracing.instances(running.pid) == [f"qtctl-{running.pid}-1-kernel"]
    running.signal(signal.SIGKILL)
    running.finish(None)
    run("-t", guest.address, "status").said(0, "gave back")
    assert tracing.instances(running.pid) == []
    assert run.leases() == []


@pytest.mark.parametrize("backend", ["simple", "ftrace", "dtrace"])
def test_every_backend_has_them(backend: str, run: Qtctl) -> None:
    with RealGuest(require("built"), image="virtio-blk", extra=("-D", "{dir}/log")) as guest:
        words = ("tail", "virtio_blk_*", "--backend", backend, "--kernel", "sched:sched_switch")
        ran = run("-t", guest.address, *words, "--max-events", "2000", "--ndjson", limit=None)
        found = events(ran.said(0).out)
    names = {one["name"] for one in found}
    assert {"sched:sched_switch", "virtio_blk_req_complete"} <= names
    times = [one["time_ns"] for one in found]
    # QEMU's threads stamp a record a little before they write it.
    assert all(two - one > -10_000_000 for one, two in pairwise(times))


class KvmGuest(RealGuest):
    """A guest under KVM."""

    def arguments(self) -> list[str]:
        return ["kvm" if part == "tcg" else part for part in super().arguments()]


async def test_records_of_a_vcpu_lie_between_its_exit_and_entry(own_folders: Path) -> None:
    if not os.access("/dev/kvm", os.W_OK):
        pytest.skip("no /dev/kvm here, or it may not be opened")
    with KvmGuest(require("path"), image="ports", extra=STAMPED) as guest:
        rows: list[np.ndarray[Any, Any]] = []
        async with qtctl.attach(guest.address) as session:
            names = ["kvm:kvm_exit", "kvm:kvm_entry", "kvm:kvm_userspace_exit", "kvm:kvm_fpu"]
            async with session.follow("memory_region_ops_*", kernel=names) as stream:
                asyncio.get_running_loop().call_later(_LIMIT_S, stream.stop)
                async for item in stream:
                    if isinstance(item, Batch):
                        rows.append(_marked(item))
                        if sum(int((one[:, 2] == 0).sum()) for one in rows) >= _CASES:
                            stream.stop()
    good = cases = 0
    whole = np.concatenate(rows)
    for tid in np.unique(whole[whole[:, 2] == 0][:, 1]).tolist():
        of_thread = whole[whole[:, 1] == tid]
        marks = of_thread[of_thread[:, 2] != 0]
        if not len(marks):  # a thread that is no vCPU
            continue
        times = of_thread[of_thread[:, 2] == 0][:, 0]
        before = np.searchsorted(marks[:, 0], times - _COARSE_NS) - 1
        after = np.searchsorted(marks[:, 0], times + _COARSE_NS)
        known = (before >= 0) & (after < len(marks))
        outside = np.zeros(len(times), np.bool_)
        # Marks that are nearer than the clocks compare decide nothing, if one of them fits.
        for low, high in ((before, after), (before + 1, after), (before, after - 1)):
            low, high = np.clip(low, 0, len(marks) - 1), np.clip(high, 0, len(marks) - 1)
            outside |= (marks[low, 2] == 1) & (marks[high, 2] == -1)
        cases += int(known.sum())
        good += int((known & outside).sum())
    if cases < 100:
        pytest.skip(f"KVM here makes too few of these events: {cases} cases in {_LIMIT_S:g} s")
    print(f"{good} of {cases} records of vCPUs lie outside of the guest")
    assert good >= 0.999 * cases


def _marked(batch: Batch) -> np.ndarray[Any, Any]:
    """Return time, thread and 1 (out of the guest), -1 (into it) or 0 (a record) of each row."""
    what = np.zeros(len(batch), np.int64)
    for event, places in batch.groups().items():
        name = batch.names[event] if event >= 0 else ""
        if name in ("kvm:kvm_exit", "kvm:kvm_userspace_exit"):
            what[places] = 1
        elif name == "kvm:kvm_entry":
            what[places] = -1
        elif name == "kvm:kvm_fpu":
            load: Any = batch.arguments(event).values["load"]
            what[places] = np.where(load == 1, -1, 1)
    return np.stack([batch.time_ns, batch.tid.astype(np.int64), what], axis=1)


def test_a_pattern_of_nothing_is_told_and_nothing_is_left(guest: RealGuest, run: Qtctl) -> None:
    target = ("-t", guest.address, "tail", "virtio_*", "--duration", "1s")
    run(*target, "--kernel", "kvm:kvm_exitt").said(3, "no kernel event", "kvm:kvm_exit")
    run("-t", guest.address, "latency", "kvm:no_such", "kvm:kvm_entry").said(3, "no kernel event")


async def test_a_kernel_that_refuses_is_told(
    guest: RealGuest, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number, wanted in (
        ("buffer_size_kb", errno.ENOMEM, "free memory"),
        ("trace_clock", errno.EROFS, "remount,rw"),
        ("set_event_pid", errno.EPERM, "root"),
        ("enable", errno.EINVAL, "Invalid argument"),
    ):
        with tracing.refused(monkeypatch, name, number):
            async with qtctl.attach(guest.address) as session:
                with pytest.raises(qtctl.Unsupported) as raised:
                    async with session.follow("virtio_blk_*", kernel=["sched:sched_switch"]):
                        pass
        assert wanted in f"{raised.value.message} {raised.value.hint}"
        assert tracing.instances(os.getpid()) == []
