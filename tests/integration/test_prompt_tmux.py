"""The prompt as a terminal shows it: in a real tmux, against the fake."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, eventually
from tests.terminals import Tmux

READ = "virtio_blk_handle_read"
RECORD = f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"


@pytest.fixture
def tmux(qtctl: Qtctl, fake: FakeProcess) -> Iterator[Tmux]:
    """Give a window of 80 columns with a prompt in it."""
    words = (sys.executable, "-m", "qtctl", "-t", fake.address, "repl")
    with Tmux(words, qtctl.environment(), columns=80, rows=20) as window:
        window.until("running")
        yield window


def rows(tmux: Tmux) -> list[str]:
    return [line.rstrip() for line in tmux.screen().rstrip("\n").split("\n")]


def test_records_arrive_above_the_line_that_is_typed(tmux: Tmux, fake: FakeProcess) -> None:
    tmux.enter(f"tail {READ}")
    tmux.until("1 event on")
    tmux.send("-l", "list virtio_scsi_ctrl")
    tmux.until("qtctl> list virtio_scsi_ctrl")
    for number in range(30):
        fake.tell(emit=[f"{READ} number {number}"])
    tmux.until("number 29")
    shown = [row for row in rows(tmux) if row]
    line = next(i for i, row in enumerate(shown) if row.startswith("qtctl> list"))
    records = [row for row in shown if "number" in row]
    assert [row.rpartition(" ")[2] for row in records] == [str(n) for n in range(30)][
        -len(records) :
    ]
    assert all(i < line for i, row in enumerate(shown) if "number" in row)
    assert sum(row.startswith("qtctl> list") for row in shown) == 1, "no line is left behind"
    tmux.send("-l", "_tmf")
    tmux.send("Enter")
    tmux.until("virtio_scsi_ctrl_tmf")


def test_the_bar_is_below_and_tells_what_goes_on(tmux: Tmux, fake: FakeProcess) -> None:
    bar = rows(tmux)[1]
    assert "running | 0 on " in bar
    assert bar.endswith("? help")
    tmux.send("-l", "list 'a")
    tmux.until("a quotation is open")
    tmux.send("C-c")
    tmux.enter(f"enable {READ}")
    tmux.until("1 on")
    fake.tell(emit=[RECORD] * 5)
    tmux.until("0 lost")
    tmux.enter("tail virtio_blk_*")
    tmux.until("1 job")
    tmux.send("C-c")
    tmux.until("0 lost")
    tmux.enter("quit")
    tmux.until("gave back 1 event")


def test_completion_shows_events_with_their_arguments(
    qtctl: Qtctl, fake: FakeProcess, tmux: Tmux
) -> None:
    tmux.send("-l", "enable blkread")
    tmux.until(READ)
    tmux.send("Tab")
    tmux.until(f"qtctl> enable {READ}")
    tmux.send("Enter")
    tmux.until("1 matched")
    eventually(lambda: fake.tell()["enabled"] == [READ], "the event is on")


def test_a_flood_is_thinned_with_a_count(tmux: Tmux, fake: FakeProcess) -> None:
    tmux.enter(f"tail {READ}")
    tmux.until("1 event on")
    for _ in range(20):
        fake.tell(emit=[RECORD] * 1000)
    tmux.until("more, counted and not drawn")
    tmux.send("C-c")
    tmux.until("20000 read, 20000 shown, 0 filtered, 0 lost")
    whole = tmux.screen("", "-S", "-")
    assert whole.count("sector 7") < 1000


@pytest.mark.parametrize("columns", [1, 2, 7, 40])
def test_the_window_is_resized_while_records_are_drawn(
    tmux: Tmux, fake: FakeProcess, columns: int
) -> None:
    tmux.enter(f"tail {READ}")
    tmux.until("1 event on")
    for number in range(20):
        fake.tell(emit=[f"{READ} number {number}"])
        tmux.run("resize-window", "-x", str(columns if number % 2 else 100), "-y", "12")
    tmux.run("resize-window", "-x", "100", "-y", "20")
    fake.tell(emit=[f"{READ} number 20"])
    # The row may be wrapped at the width from before the last change.
    eventually(lambda: "number20" in "".join("".join(rows(tmux)).split()), "the record is shown")
    tmux.until("^D leave")  # tmux resizes the terminal of a window a little later
    tmux.enter("jobs")
    tmux.until("JOB")
    eventually(lambda: rows(tmux)[-2:-1] == ["qtctl>"], "the prompt is last")


def test_a_killed_window_gives_the_guest_back(qtctl: Qtctl, tmux: Tmux, fake: FakeProcess) -> None:
    tmux.enter(f"enable {READ}")
    tmux.until("1 matched")
    tmux.enter("tail virtio_scsi_*")
    eventually(lambda: len(fake.tell()["enabled"]) > 1, "the events of the tail are on")
    tmux.run("kill-server")
    eventually(lambda: not fake.tell()["enabled"], "the guest is given back")
    eventually(lambda: not qtctl.leases(), "the leases are gone")
