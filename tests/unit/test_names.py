"""Names of threads and pointers: told where they are known, and nothing made up elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import LinkLost, QtctlError, Refused
from qtctl.monitor.client import Monitor
from qtctl.records.batch import Batch
from qtctl.session.names import Names
from tests.samples import event_table, only_batch

BLK = "/machine/peripheral-anon/device[0]/virtio-backend"
RNG = "/machine/peripheral/rng0/virtio-backend"


class Answering:
    """A monitor that has its answers ready."""

    def __init__(self, answers: Mapping[str, Any], other: QtctlError) -> None:
        self._answers = answers
        self._other = other

    async def ask(self, command: str, convert: Callable[[Any], Any]) -> Any:
        if command not in self._answers:
            raise self._other
        return convert(self._answers[command])


async def names(virtio: list[tuple[str, str]], other: QtctlError | None = None) -> Names:
    answers: dict[str, Any] = {
        "query-cpus-fast": [{"thread-id": 11, "cpu-index": 0}, {"thread-id": 12, "cpu-index": 1}],
        "query-iothreads": [{"thread-id": 21, "id": "io1"}],
        "x-query-virtio": [{"name": name, "path": path} for name, path in virtio],
    }
    monitor = Answering(answers if other is None else {}, other or Refused("no such command"))
    return await Names.ask(cast(Monitor, monitor), None)


def batch(*lines: str) -> Batch:
    text = "".join(f"{line}\n" for line in lines).encode()
    return only_batch(LogDecoder(event_table("7.2")).end(text, Clocks(0)))


def read_of(vdev: int) -> str:
    return f"virtio_blk_handle_read vdev {vdev:#x} req 0x2 sector 0 nsectors 1"


def region(mr: int, name: str) -> str:
    return f"memory_region_ops_read cpu 0 mr {mr:#x} addr 0x70 value 0x1 size 1 name '{name}'"


async def test_threads_that_qmp_knows() -> None:
    known = await names([])
    assert [known.thread(tid) for tid in (11, 12, 21, 99)] == [
        "vCPU 0",
        "vCPU 1",
        "iothread io1",
        "",
    ]


@pytest.mark.parametrize("error", [Refused("no"), LinkLost("gone")])
async def test_a_monitor_that_tells_nothing_leaves_numbers(error: QtctlError) -> None:
    known = await names([], error)
    known.learn(batch(read_of(1)), "vdev")
    assert (known.thread(11), known.pointer(1)) == ("", "")


async def test_the_only_device_of_its_kind_is_known_by_its_events() -> None:
    known = await names([("virtio-blk", BLK), ("virtio-rng", RNG)])
    known.learn(batch(read_of(0xAB), "virtio_queue_notify vdev 0xcd n 0 vq 0x1"), "vdev")
    assert known.pointer(0xAB) == "/machine/peripheral-anon/device[0]"
    assert known.pointer(0xCD) == ""


async def test_the_only_virtio_device_is_known_by_any_event() -> None:
    known = await names([("virtio-rng", RNG)])
    known.learn(batch("virtio_queue_notify vdev 0xcd n 0 vq 0x1"), "vdev")
    assert known.pointer(0xCD) == "rng0"


async def test_two_of_a_kind_are_not_guessed() -> None:
    known = await names([("virtio-blk", BLK), ("virtio-blk", RNG)])
    known.learn(batch(read_of(0xAB)), "vdev")
    assert known.pointer(0xAB) == ""


async def test_records_name_their_memory_regions_and_objects() -> None:
    known = await names([])
    said = batch(region(1, "rtc"), region(2, "port92"), region(1, "rtc"), "qdev_reset obj=0x9(rtc)")
    known.learn(said, "mr")
    known.learn(said, "obj")
    assert [known.pointer(address) for address in (1, 2, 9, 3)] == ["rtc", "port92", "rtc", ""]


async def test_what_is_learnt_is_bounded() -> None:
    known = await names([])
    known.learn(batch(*(region(number, f"r{number}") for number in range(1, 6000))), "mr")
    known.learn(batch(region(9999, "late")), "mr")
    named = sum(bool(known.pointer(number)) for number in range(10_000))
    assert named == 4096


def test_a_process_knows_itself_by_its_pid() -> None:
    from qtctl.monitor.processes import pid_inside

    assert pid_inside(os.getpid()) == os.getpid()
