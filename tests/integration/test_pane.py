"""The side pane in a real tmux: beside the work, driven by keys, gone without a trace."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import MakeFake
from tests.running import Qtctl, eventually
from tests.terminals import Pty, Tmux

READ = "virtio_blk_handle_read"
DONE = "virtio_blk_req_complete"
#: QEMU 11.1 has it no more.
ONLY_OLD = "qdev_reset"


def read_line(sector: int, *, size: int = 1) -> str:
    return f"{READ} vdev 0x55f0 req 0x55f1 sector {sector} nsectors {size}"


class Beside:
    """A shell in tmux on a fake guest, and the pane that qtctl made beside it."""

    def __init__(self, tmux: Tmux, qtctl: Qtctl, fake: FakeProcess, declared: Path) -> None:
        self.tmux = tmux
        self._qtctl = qtctl
        self._fake = fake
        self._call = [
            *(sys.executable, "-m", "qtctl", "-t", fake.address),
            *("--events-all", str(declared)),
        ]
        self.pane = ""

    def panes(self) -> list[str]:
        return self.tmux.run("list-panes", "-a", "-F", "#{pane_id}").split()

    def call(self, *words: str) -> None:
        """Run qtctl in the shell."""
        self.tmux.enter(shlex.join([*self._call, *words]), "%0")

    def open(self, *words: str) -> str:
        """Run ``qtctl pane`` in the shell and wait until the pane shows a view."""
        self.call("pane", *words)
        found = eventually(lambda: {*self.panes()} - {"%0"}, "a second pane")
        [self.pane] = found
        return self.shows(" read  ")

    def shows(self, text: str) -> str:
        return self.tmux.until(text, self.pane)

    def shows_not(self, text: str) -> str:
        def without() -> str:
            screen = self.tmux.screen(self.pane)
            return "" if text in screen else screen

        return str(eventually(without, f"no {text!r} is shown"))

    def keys(self, *keys: str) -> None:
        self.tmux.send(*keys, pane=self.pane)

    def answer(self, key: str, question: str, text: str) -> None:
        """Press a key that asks, and answer it."""
        self.keys(key)
        self.shows(f"{question}:")
        self.tmux.enter(text, self.pane)
        self.shows_not(f"{question}:")

    def emit(self, *lines: str) -> None:
        self._fake.tell(emit=list(lines))

    def reset_guest(self) -> None:
        self._fake.tell(event="RESET", data={"guest": False, "reason": "host-qmp-system-reset"})

    def stop_guest(self) -> None:
        self._fake.stop()

    def enabled(self) -> list[str]:
        return list(self._fake.tell()["enabled"])

    def gone(self) -> None:
        """Wait until the pane has left, and see that the guest is as it was."""
        eventually(lambda: self.panes() == ["%0"], "the pane is gone")
        eventually(lambda: self.enabled() == [], "the events are off")
        eventually(lambda: self._qtctl.leases() == [], "no lease is left")


@pytest.fixture
def beside(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> Iterator[Beside]:
    """Give a shell in a tmux of 200 columns."""
    with Tmux(["sh"], qtctl.environment(), columns=200) as tmux:
        yield Beside(tmux, qtctl, fake, declared)


def test_the_window_is_split_and_the_focus_stays(beside: Beside) -> None:
    beside.open(READ)
    assert beside.tmux.run("display-message", "-p", "#{pane_id}").strip() == "%0"
    assert beside.pane in beside.tmux.screen("%0").split()
    where = beside.tmux.run(
        "display-message", "-p", "-t", beside.pane, "#{pane_width} #{pane_left} #{pane_top}"
    )
    assert where.split() == ["80", "120", "0"]
    assert beside.enabled() == [READ]
    beside.emit(read_line(17))
    shown = beside.shows("sector=17")
    assert READ in shown
    assert "1 read  0 lost" in shown.splitlines()[0]
    beside.keys("q")
    beside.gone()


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("--left", "--size", "30"), "30 30 0 0"),
        (("--bottom", "--size", "25%"), "200 7 0 23"),
    ],
)
def test_where_the_pane_goes(beside: Beside, words: tuple[str, ...], place: str) -> None:
    beside.open(READ, *words)
    format_ = "#{pane_width} #{pane_height} #{pane_left} #{pane_top}"
    told = beside.tmux.run("display-message", "-p", "-t", beside.pane, format_)
    assert told.strip() == place


def test_a_killed_pane_gives_the_guest_back(beside: Beside) -> None:
    beside.open("virtio_blk_*")
    assert READ in beside.enabled()
    beside.tmux.run("kill-pane", "-t", beside.pane)
    beside.gone()


def test_pausing_freezes_rows_while_counters_go_on(beside: Beside) -> None:
    beside.open(READ)
    beside.emit(read_line(1))
    beside.shows("sector=1 ")
    beside.keys("Space")
    beside.shows("PAUSED")
    beside.emit(read_line(2), read_line(3))
    shown = beside.shows(" 3 read")
    assert "sector=1 " in shown
    assert "sector=2" not in shown
    beside.keys("Space")
    beside.shows("sector=3")
    assert "PAUSED" not in beside.tmux.screen(beside.pane)


def test_filters_search_and_clear(beside: Beside) -> None:
    beside.open(READ, "--size", "100")
    beside.answer("f", "filter", "sector > 5")
    beside.shows("where sector > 5")
    beside.emit(*map(read_line, (1, 7, 8)))
    shown = beside.shows("sector=8")
    assert "sector=7" in shown
    assert "sector=1 " not in shown
    assert " 3 read" in shown
    beside.answer("f", "filter", "sectr > 5")
    beside.shows("no matched event has an argument 'sectr'")
    beside.answer("f", "filter", "")
    beside.answer("&", "only", "SECTOR=7")
    assert "sector=8" not in beside.shows("sector=7")
    beside.answer("&", "only", "")
    beside.shows("sector=8")
    beside.emit(*map(read_line, range(100, 180)))
    beside.shows("sector=179")
    beside.answer("/", "search", "sector=110 ")
    shown = beside.shows("sector=110 nsectors=1")
    assert "BACK" in shown
    assert "sector=179" not in shown
    beside.keys("n")
    beside.shows("no other row above")
    beside.keys("Escape")
    beside.keys("End")
    beside.shows("sector=179")
    beside.keys("c")
    beside.shows_not("sector=")
    beside.keys("h")
    beside.shows("leave, and give the guest back")
    beside.keys("Escape")
    beside.shows_not("leave, and give")


def test_the_view_switches_to_rates_and_back(beside: Beside) -> None:
    beside.open("virtio_blk_*", "--view", "top", "--size", "100")
    beside.emit(read_line(1), read_line(2, size=8), read_line(3, size=8))
    assert re.search(rf"^{READ} .* 3 ", beside.shows(READ), re.M)
    beside.answer("b", "by (event, tid, ARG)", "nsectors")
    beside.emit(read_line(4, size=8), read_line(5, size=8))
    screen = beside.shows("NSECTORS (by rate)")
    eventually(lambda: re.search(r"^8 .* 2 ", beside.tmux.screen(beside.pane), re.M), screen)
    beside.answer("b", "by (event, tid, ARG)", "nosuch")
    beside.shows("no selected event has an argument 'nosuch'")
    beside.keys("s")
    beside.shows("NSECTORS (by bytes)")
    beside.keys("t")
    beside.shows("sector=5")


def request(req: int, *, stamp: bool = True) -> list[str]:
    """Return the lines of a request that ends now; ``stamp``: with times."""
    lines = [
        f"{READ} vdev 0x55f0 req {req:#x} sector {req} nsectors 1",
        f"{DONE} vdev 0x55f0 req {req:#x} status 0",
    ]
    times = (time.time() - 1.2e-4, time.time())
    stamps = [f"7@{at:.6f}:" if stamp else "" for at in times]
    return [begin + line for begin, line in zip(stamps, lines, strict=True)]


def clicked(beside: Beside, column: int, row: int) -> None:
    """Press and release the mouse in the pane, as a terminal tells it (SGR)."""
    for end in "Mm":
        beside.keys("-l", f"\x1b[<0;{column + 1};{row + 1}{end}")


def test_records_rates_and_latency_share_the_selected_time(beside: Beside) -> None:
    beside.open(READ, DONE, "--size", "100")
    beside.emit(*request(1), *request(2))
    beside.shows("req=0x2")
    beside.keys("Tab")
    beside.shows("Left selects a second")
    beside.keys("Tab")
    beside.shows("no pair of events is measured")
    beside.keys("Enter")
    shown = beside.shows("2 pairs")
    assert f"{READ} .. {DONE} by vdev,req" in shown
    # What comes later is measured, too; time goes on without records.
    beside.emit(*request(3), request(4)[0])
    beside.shows("1 in flight")
    beside.shows("3 pairs")
    beside.keys("Home")
    told = re.search(r"(:\d\d)  .* \.\. .*: (\d) of (\d)", beside.shows(" of "))
    assert told is not None
    assert 1 <= int(told[2]) <= int(told[3])
    beside.keys("Tab")
    shown = beside.shows("BACK")
    assert "req=0x1" in shown
    beside.keys("Tab")
    assert f"{told[1]}  " in beside.shows(" records in this second")
    beside.keys("Tab")
    beside.shows(" of ")
    beside.keys("Enter")
    beside.shows("status=0")
    beside.keys("Enter")
    assert DONE in beside.shows("the same request").splitlines()[1]


def test_a_filter_is_for_pairs_and_for_the_rest(beside: Beside) -> None:
    words = ("--view", "latency", "--pair", f"{READ},{DONE}", "--where", "sector != 1")
    beside.open(READ, DONE, *words, "--size", "100")
    assert "no pair yet" in beside.shows("no pair yet")
    beside.emit(*request(1), *request(2), *request(3))
    shown = beside.shows("2 pairs")
    assert "1 not matching --where" in shown
    assert " 6 read" in shown
    beside.answer("f", "filter", "sector < 3")
    beside.emit(*request(4), *request(1), *request(2))
    beside.shows("1 pairs")
    beside.keys("y")
    told = beside.shows("--pair=").replace("\n", "")
    assert "--view latency" in told
    assert "(sector != 1) and (sector < 3)" in re.sub(r" +", " ", told)
    beside.keys("Escape")
    beside.answer("f", "filter", "status == 1")
    shown = beside.shows("no latency is measured: no matched event has an argument 'status'")
    assert f"{READ},{DONE}" in shown
    beside.keys("q")
    beside.gone()


def test_the_mouse_selects_seconds_and_rows(beside: Beside) -> None:
    beside.open(READ, DONE, "--view", "top", "--size", "100")
    beside.emit(*request(1), *request(2))
    shown = beside.shows(DONE)
    lines = beside.shows("Left selects").splitlines()
    bars = next(n for n, line in enumerate(lines) if line.startswith("the last")) - 1
    eventually(lambda: beside.tmux.screen(beside.pane).splitlines()[bars].strip(), shown)
    place = len(beside.tmux.screen(beside.pane).splitlines()[bars].rstrip()) - 1
    clicked(beside, place, bars)
    beside.shows(" records in this second")
    clicked(beside, 3, 3)
    beside.keys("d")
    eventually(lambda: len(beside.enabled()) == 1, "an event is off")


def test_times_of_arrival_are_no_latency(beside: Beside) -> None:
    beside.open(READ, DONE, "--view", "latency", "--pair", f"{READ},{DONE}", "--size", "100")
    beside.emit(*request(1, stamp=False))
    assert "1 by arrival times" in beside.shows("QEMU gave their records no times")


def test_a_wrong_pair_makes_no_pane(beside: Beside) -> None:
    beside.call("pane", READ, "--pair", f"{READ},{DONE}")
    beside.tmux.until("no event matches", "%0")
    beside.call("pane", READ, "--pair", READ)
    beside.tmux.until("not two events", "%0")
    assert beside.panes() == ["%0"]


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"COLORFGBG": "0;15"}, {"LANG": "C"}])
def test_the_heat_map_fits_forty_columns_and_twelve_rows(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, env: dict[str, str]
) -> None:
    words = ("-t", fake.address, "--events-all", str(declared), "pane", "--here", READ, DONE)
    call = [sys.executable, "-m", "qtctl", *words, "--view", "latency", "--pair", f"{READ},{DONE}"]
    with Tmux(call, qtctl.environment(env), columns=40, rows=12) as tmux:
        tmux.until("no pair yet")
        fake.tell(emit=[line for req in range(1, 50) for line in request(req)])
        shown = tmux.until("49 pairs")
        assert ("#" if env.get("LANG") == "C" else "█") in shown
        tmux.send("Home")
        tmux.until(": 49 of 49")
        for columns, rows in ((3, 3), (1, 1), (200, 50), (40, 12)):
            tmux.run("resize-window", "-x", str(columns), "-y", str(rows))
            tmux.send("Up")
        tmux.until(" of 49")
        tmux.send("q")
        eventually(lambda: fake.tell()["enabled"] == [], "the events are off")


def test_forty_columns_and_one(beside: Beside) -> None:
    beside.open("virtio_blk_*", "--size", "40")
    beside.emit(read_line(12345))
    shown = beside.shows("_handle_read vdev=0x55f0 req…")
    assert "12345" not in shown
    beside.keys("Right")
    beside.shows("_handle_read …f0 req=0x55f1")
    beside.keys("Left", "w")
    beside.shows("sector=12345")
    beside.keys("w", "t")
    beside.shows("25%" if "25%" in beside.tmux.screen(beside.pane) else READ)
    for width in (1, 2, 39, 1, 40):
        beside.tmux.run("resize-pane", "-t", beside.pane, "-x", str(width))
        beside.emit(*map(read_line, range(10)))
        beside.keys("t")
    beside.shows(" read")
    beside.keys("q")
    beside.gone()


def test_the_window_may_change_its_size_while_it_draws(
    qtctl: Qtctl, make_fake: MakeFake, declared: Path
) -> None:
    fake = make_fake("--rate", "2000")
    with Tmux(["sh"], qtctl.environment(), columns=120) as tmux:
        beside = Beside(tmux, qtctl, fake, declared)
        beside.open("virtio_blk_*")
        beside.shows("vdev=")
        for columns, rows in ((80, 5), (3, 3), (200, 50), (120, 2), (120, 30)):
            tmux.run("resize-window", "-x", str(columns), "-y", str(rows))
        beside.shows("vdev=")
        beside.keys("q")
        beside.gone()


def test_guest_texts_cannot_steer_the_terminal(beside: Beside) -> None:
    beside.open("memory_region_ops_read", "--size", "170")
    evil = "'\x1b]0;owned\x07\x1b[31mred\x9b'"
    beside.emit(f"memory_region_ops_read cpu 0 mr 0x1 addr 0x2 value 0x3 size 4 name {evil}")
    assert "\\x1b[31mred" in beside.shows("name=").replace("\n", "")
    beside.keys("t")
    beside.answer("b", "by (event, tid, ARG)", "name")
    beside.emit(f"memory_region_ops_read cpu 0 mr 0x1 addr 0x2 value 0x3 size 4 name {evil}")
    beside.shows("\\x1b]0;owned")
    title = beside.tmux.run("display-message", "-p", "-t", beside.pane, "#{pane_title}")
    assert "owned" not in title


def test_a_locale_without_utf8_gets_ascii(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> None:
    env = qtctl.environment({"LANG": "C", "TERM": "xterm"})
    args = ("-t", fake.address, "--events-all", str(declared), "pane", "--here", "--view", "top")
    with Pty((*args, READ), env) as shown:
        shown.until("0 lost")
        fake.tell(emit=[read_line(1)] * 9)
        shown.until(READ)
        shown.send("q")
        assert shown.finish() == 0
    assert bytes(shown.output).isascii()
    assert fake.tell()["enabled"] == []


def test_ctrl_c_leaves_and_says_the_sums(qtctl: Qtctl, fake: FakeProcess) -> None:
    with Pty(("-t", fake.address, "top", READ), qtctl.environment()) as shown:
        shown.until("0 lost")
        shown.send("\x03")
        assert shown.finish() == 0
    assert "0 read, 0 shown" in shown.text
    assert fake.tell()["enabled"] == []


def test_the_view_follows_a_guest_that_is_started_again(
    qtctl: Qtctl, make_fake: MakeFake, declared: Path
) -> None:
    first = make_fake()
    with Tmux(["sh"], qtctl.environment(), columns=160) as tmux:
        beside = Beside(tmux, qtctl, first, declared)
        beside.open(READ, "--size", "110")
        beside.emit(read_line(1))
        beside.shows("sector=1 ")
        beside.answer("f", "filter", "sector != 3")
        beside.stop_guest()
        beside.shows("GONE")
        assert "waiting for the guest" in beside.shows("waiting").replace("\n", "")
        again = make_fake()
        eventually(lambda: again.tell()["enabled"] == [READ], "the event is on again")
        beside.shows_not("GONE")
        again.tell(emit=[read_line(sector) for sector in (2, 3)])
        shown = beside.shows("sector=2")
        assert "sector=3" not in shown
        assert " 3 read  0 lost" in shown
        beside.keys("q")
        eventually(lambda: beside.panes() == ["%0"], "the pane is gone")
        assert again.tell()["enabled"] == []


def test_a_view_whose_guest_is_gone_can_be_left(qtctl: Qtctl, make_fake: MakeFake) -> None:
    fake = make_fake()
    with Pty(("-t", fake.address, "top", READ), qtctl.environment()) as shown:
        shown.until("0 lost")
        fake.process.kill()  # at once: on a busy machine the monitor goes long before the rest
        fake.stop()
        shown.until("GONE")
        shown.send("q")
        assert shown.finish() == 0
    assert qtctl.leases() == []


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ((), {}, "qtctl pane --here in a second terminal"),
        (("--size", "0"), {}, "not a size"),
        (("--size", "100%"), {}, "not a size"),
        (("--here",), {}, "a view needs a terminal for itself"),
        ((), {"TMUX": "/nonexistent,1,0", "TMUX_PANE": "%0"}, "tmux split-window"),
    ],
)
def test_where_no_pane_can_be_it_says_what_to_do(
    qtctl: Qtctl, fake: FakeProcess, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    clean = {"TMUX": None, "TMUX_PANE": None, **env}
    ran = qtctl("-t", fake.address, "pane", *words, env=clean)
    ran.said(1 if env else 2, said)
    assert fake.tell()["enabled"] == []


def test_a_dumb_terminal_gets_a_table(qtctl: Qtctl, fake: FakeProcess) -> None:
    env = qtctl.environment({"TERM": "dumb"})
    with Pty(("-t", fake.address, "top", READ, "--interval", "200ms"), env) as shown:
        assert shown.finish() == 0
    assert "\x1b" not in shown.text
    assert "0 read, 0 shown" in shown.text


def test_no_room_is_told(beside: Beside) -> None:
    beside.tmux.run("resize-window", "-x", "120", "-y", "2")
    beside.call("pane", READ, "--bottom")
    beside.tmux.until("try: another --size", "%0")
    assert beside.panes() == ["%0"]


def test_a_wrong_call_makes_no_pane(beside: Beside) -> None:
    beside.call("pane", "no_such_event")
    beside.tmux.until("no event matches", "%0")
    assert beside.panes() == ["%0"]


def test_it_is_driven_from_any_other_pane(beside: Beside) -> None:
    beside.open()
    beside.call("enable", READ)
    beside.shows("1 changed ---")
    beside.emit(read_line(5))
    beside.shows("sector=5")
    beside.call("mark", "before \x07 reset")
    assert "mark: before \\x07 reset" in beside.shows("mark: before").replace("\n", "")
    beside.reset_guest()
    beside.shows("RESET")
    beside.keys("q")
    eventually(lambda: beside.panes() == ["%0"], "the pane is gone")
    assert beside.enabled() == [READ]


def test_two_views_of_one_guest_show_the_same(beside: Beside) -> None:
    beside.open(READ)
    first, known = beside.pane, set(beside.panes())
    beside.call("pane", READ, "--bottom")
    [second] = eventually(lambda: {*beside.panes()} - known, "a third pane")
    beside.tmux.until("0 lost", second)
    beside.emit(read_line(3))
    for pane in (first, second):
        beside.tmux.until("sector=3", pane)
    beside.tmux.run("kill-pane", "-t", first)
    eventually(lambda: len(beside.panes()) == 2, "the first is gone")
    beside.emit(read_line(4))
    beside.tmux.until("sector=4", second)
    assert beside.enabled() == [READ]
    beside.tmux.send("q", pane=second)
    beside.gone()


def test_what_ends_the_view_can_be_read(beside: Beside, make_fake: MakeFake) -> None:
    beside.open(ONLY_OLD)
    beside.stop_guest()
    beside.shows("GONE")
    make_fake("--qemu", "11.1")
    shown = beside.shows("Enter closes this pane")
    assert f"no event matches '{ONLY_OLD}'" in shown.replace("\n", "")
    beside.keys("Enter")
    eventually(lambda: beside.panes() == ["%0"], "the pane is gone")


def test_tmux_s_own_facts_are_read_from_the_environment() -> None:
    from qtctl.ui.tmux import TmuxPane, here

    assert here({"TMUX": "/tmp/tmux-0/default,123,4", "TMUX_PANE": "%7"}) == TmuxPane(
        "/tmp/tmux-0/default", "%7"
    )
    assert here({"TMUX": "", "TMUX_PANE": "%7"}) is None
    assert here({k: v for k, v in os.environ.items() if not k.startswith("TMUX")}) is None
