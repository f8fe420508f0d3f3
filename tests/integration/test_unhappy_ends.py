"""Verbs that cannot do what was asked: what they say, also as JSON, and what they leave."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl

EVENT = "virtio_blk_handle_read"
SET = ":trace-event-set-state"


@pytest.fixture
def unavailable(qtctl: Qtctl, fake: FakeProcess) -> str:
    """Return an event that the guest's QEMU was built without."""
    ran = qtctl("-t", fake.address, "list", "--state", "unavailable", "--json").said(0)
    return str(json.loads(ran.out)["events"][0]["name"])


@pytest.mark.parametrize(
    "verb",
    [("tail",), ("wait",), ("count", "--duration", "9s"), ("record", "-o", "F")],
    ids=lambda verb: verb[0],
)
def test_an_unavailable_event_is_said_at_once(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, unavailable: str, verb: tuple[str, ...]
) -> None:
    words = [str(folder / word) if word == "F" else word for word in verb]
    ran = qtctl("-t", fake.address, words[0], unavailable, *words[1:])
    ran.said(1, f"{unavailable} is unavailable on")
    assert not (folder / "F").exists()
    assert not qtctl.leases()


def test_available_events_are_followed_beside_unavailable_ones(
    qtctl: Qtctl, fake: FakeProcess, unavailable: str
) -> None:
    ran = qtctl("-t", fake.address, "tail", EVENT, unavailable, "--duration", "50ms")
    ran.said(0, "1 event unavailable in this QEMU")


@pytest.mark.parametrize("words", [("MISSPELT",), (EVENT, "--where", "nosuch == 1")])
@pytest.mark.parametrize("verb", ["tail", "record"])
def test_an_error_leaves_no_file(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, verb: str, words: tuple[str, ...]
) -> None:
    assert qtctl("-t", fake.address, verb, *words, "-o", str(folder / "F")).code in (2, 3)
    assert not (folder / "F").exists()


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/mem", "/", "/dev/null/x"])
def test_files_of_patterns_and_declarations_end(qtctl: Qtctl, fake: FakeProcess, path: str) -> None:
    for words in (
        ("enable", "--file", path),
        ("tail", EVENT, "--events-all", path, "--duration", "50ms"),
        ("on", "--file", path),
    ):
        ran = qtctl("-t", fake.address, *words).said(2)
        assert path in ran.err


def test_patterns_may_come_through_a_pipe(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    read, write = os.pipe()
    run = qtctl.start("-t", fake.address, "enable", "--file", "/dev/stdin", stdin=read)
    os.close(read)
    os.write(write, EVENT.encode())
    os.close(write)
    run.finish().said(0)
    assert fake.tell()["enabled"] == [EVENT]


def test_a_switch_that_timed_out_is_unknown(qtctl: Qtctl, fake: FakeProcess) -> None:
    target = ("-t", fake.address)
    fake.tell(faults=[f"no-reply{SET}"])
    ran = qtctl(*target, "enable", EVENT, limit=None)
    assert ran.code == 5, ran
    assert "the outcome is unknown" in ran.out
    [lease] = qtctl.leases()  # so that a switch that comes late is taken back
    assert EVENT in json.loads(lease.read_text())["events"]
    ran = qtctl(*target, "enable", "virtio_blk_req_complete", "--json", limit=None)
    document = json.loads(ran.out)
    assert ran.code == 5
    assert document["unknown"] == ["virtio_blk_req_complete"]
    assert not document["failed"] and not document["changed"]
    fake.tell(faults=[])
    qmp = json.dumps(
        {"execute": "trace-event-set-state", "arguments": {"name": EVENT, "enable": True}}
    )
    qtctl(*target, "qmp", qmp).said(0)  # QEMU applies it late
    qtctl(*target, "restore").said(0)
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


def test_a_restore_that_timed_out_stays_in_the_journal(qtctl: Qtctl, fake: FakeProcess) -> None:
    target = ("-t", fake.address)
    qtctl(*target, "enable", EVENT).said(0)
    fake.tell(faults=[f"no-reply{SET}"])
    ran = qtctl(*target, "restore", limit=None)
    assert ran.code == 5, ran
    assert "the outcome is unknown" in ran.err + ran.out
    assert fake.tell(faults=[])["enabled"] == [EVENT]
    qtctl(*target, "restore").said(0)
    assert not fake.tell()["enabled"]


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("list", "MISSPELT", "--json"), 3, "no event matches"),
        (("status", "--json", "-t", "/nowhere"), 4, "/nowhere"),
        (("tail", "MISSPELT", "--ndjson"), 3, "no event matches"),
        (("tail", "--json"), 2, "tail prints a stream"),
        (("count", "--nosuch", "--json"), 2, "--nosuch"),
        (("--json", "nosuch"), 2, "nosuch"),
        (("replay", "/nowhere", "--ndjson"), 2, "cannot read /nowhere"),
        (("qmp", "nosuch", "--json"), 1, "nosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_is_an_object_too(
    qtctl: Qtctl, fake: FakeProcess, words: tuple[str, ...], code: int, says: str
) -> None:
    target = () if "-t" in words else ("-t", fake.address)
    ran = qtctl(*target, *words).said(code, says)
    [error] = objects(ran.out)
    assert error["type"] == "error"
    assert error["exit_code"] == code
    assert says in error["message"]
    assert set(error) == {"type", "message", "hint", "exit_code"}
