"""``replay --follow FILE``: a file that grows, is truncated, is rotated."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Qtctl, Running
from tests.samples import declarations_text

DONE = "virtio_blk_req_complete vdev 0x55aa10002000 req 0x55aa10030000 status"


class Follower:
    """A log, and the qtctl that follows it."""

    def __init__(self, log: Path, started: Running) -> None:
        self.log = log
        self.started = started

    def write(self, *numbers: int, to: Path | None = None, text: str = "") -> None:
        """Append a record for each number, and wait until all are printed."""
        with (to or self.log).open("a") as file:
            file.write(text)
            file.writelines(f"7@17000000{n:02}.000001:{DONE} {n}\n" for n in numbers)
        for number in numbers:
            self.started.wrote(b'"status": %d}' % number)

    def ended(self) -> list[dict[str, object]]:
        """Stop it, and return what it printed."""
        self.started.signal(signal.SIGINT)
        ran = self.started.finish()
        assert ran.code == 130, ran
        return [json.loads(line) for line in ran.out.splitlines()]


@pytest.fixture
def following(qtctl: Qtctl, tmp_path: Path) -> Iterator[Follower]:
    declared, log = tmp_path / "trace-events-all", tmp_path / "vm.log"
    declared.write_text(declarations_text("7.2"))
    log.touch()
    words = ("replay", "--follow", str(log), "--ndjson", "--events-all", str(declared))
    yield Follower(log, qtctl.start(*words))


def printed(found: list[dict[str, object]]) -> list[object]:
    """Return the numbers of the records (``raw`` of a raw one), and the types of other objects."""
    return [
        "raw" if "raw" in one else one["args"]["status"] if "args" in one else one["type"]  # type: ignore[index]
        for one in found
    ]


def test_a_file_that_grows(following: Follower) -> None:
    following.write(1, text="SeaBIOS\n")
    following.write(2, 3)
    found = following.ended()
    assert printed(found) == [1, 2, 3, "summary"]
    assert found[-1]["shown"] == 3


def test_a_file_that_is_truncated(following: Follower) -> None:
    following.write(1, 2)
    following.log.write_text("")
    following.write(3)
    assert printed(following.ended()) == [1, 2, "loss", 3, "summary"]


def test_a_file_that_is_rotated(following: Follower) -> None:
    """What is left in the old one comes first, and what its writer still adds is read."""
    following.write(1)
    old = following.log.rename(following.log.with_suffix(".0"))
    following.write(2, to=old, text="")
    following.log.write_text(f"7@1700000003.000001:{DONE} 3\n")
    following.started.wrote(b'"status": 3}')
    following.write(4, to=old)
    following.write(5)
    again = following.log.rename(following.log.with_suffix(".1"))
    following.write(6, to=again)
    following.write(7)
    assert printed(following.ended()) == [1, 2, 3, 4, 5, 6, 7, "summary"]


def test_a_cut_line_ends_with_its_file(following: Follower) -> None:
    following.write(1)
    with following.log.open("a") as file:
        file.write(f"7@1700000000.000001:{DONE} 9")
    following.log.rename(following.log.with_suffix(".0"))
    following.write(2)
    assert printed(following.ended()) == [1, "raw", 2, "summary"]


def test_what_cannot_be_followed(qtctl: Qtctl, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    qtctl("replay", "--follow", str(tmp_path / "none.log")).said(2, "cannot read")
    qtctl("replay", "--follow", str(log), str(log)).said(2, "--follow is for one FILE")
    qtctl("replay", "--follow", str(tmp_path)).said(2, "is not a plain file")
    (tmp_path / "b").write_bytes(b"\xff" * 8 + 0xF2B177CB0AA429B4.to_bytes(8, "little") + b"\4" * 8)
    qtctl("replay", "--follow", str(tmp_path / "b")).said(2, "is no text")
