"""Several guests: a list to choose from where the call names none, in the prompt and in a view."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.qemus import RealGuest, require
from tests.running import Qtctl, eventually
from tests.terminals import Pty, Tmux

pytestmark = pytest.mark.qemu

READ = "virtio_blk_handle_read"


@pytest.fixture
def guests() -> Iterator[tuple[str, str]]:
    """Return the pids of two guests, named ``name(1)`` and ``name(2)``."""
    with ExitStack() as stack:
        pids = []
        for number in (1, 2):
            guest = RealGuest(
                require("path"),
                image="virtio-blk",
                extra=("-name", name(number), "-msg", "timestamp=on", "-D", "{dir}/log"),
            )
            stack.enter_context(guest)
            pids.append(str(guest.pid))
        yield pids[0], pids[1]


def name(number: int) -> str:
    """Return the name of a guest, which those of other workers do not have."""
    return f"pick{number}-{os.getpid()}"


def on_terminal(qtctl: Qtctl, *words: str, columns: int = 100) -> Tmux:
    # The shell keeps the window when qtctl has ended.
    call = ("sh", "-c", '"$@"; echo "exit $?"; exec sleep 600', "sh", sys.executable, "-m", "qtctl")
    return Tmux((*call, *words), qtctl.environment(), columns=columns, rows=20)


def choose(tmux: Tmux, pid: str) -> None:
    """Type a pid into the list, and choose its guest."""
    tmux.until("Enter: choose")
    tmux.send("-l", pid)
    tmux.until("1 of ")
    tmux.send("Enter")


def enabled(qtctl: Qtctl, pid: str) -> str:
    """Return what is on; the prompt or the view lends the guest's monitor."""
    return qtctl("-t", pid, "list", "--state", "enabled", limit=None).said(0).out


def test_the_prompt_begins_with_a_list_and_ctrl_g_shows_it_again(
    qtctl: Qtctl, guests: tuple[str, str]
) -> None:
    first, second = guests
    with on_terminal(qtctl) as tmux:
        shown = tmux.until("Enter: choose")
        assert "HELD BY" in shown
        assert name(1) in shown
        choose(tmux, first)
        tmux.until(f"{name(1)} running | 0 on")
        tmux.enter(f"enable {READ}")
        tmux.until("0 lost")
        tmux.send("-l", "jobs")
        tmux.send("C-g")
        tmux.until("Enter: choose")
        tmux.send("Escape")
        tmux.until("qtctl> jobs")  # what was typed is still there
        assert READ in enabled(qtctl, first)
        tmux.send("C-g")
        choose(tmux, second)
        tmux.until("gave back 1 event")
        tmux.until(f"{name(2)} running | 0 on")
        assert not enabled(qtctl, first)
        tmux.send("C-c")
        tmux.send("-l", f"use {name(1)[:-1]}")
        tmux.until(f"pid {first}")  # the menu of guests
        tmux.send("C-c")
        tmux.enter(f"use {name(1)}")
        tmux.until(f"{name(1)} running | 0 on")
        tmux.enter("quit")
        tmux.until("exit 0")
    assert not qtctl.leases()


def test_a_verb_asks_for_a_guest_on_a_terminal_only(qtctl: Qtctl, guests: tuple[str, str]) -> None:
    first, _ = guests
    with on_terminal(qtctl, "list", READ, columns=40) as tmux:
        choose(tmux, first)
        tmux.until(READ)
        tmux.until("exit 0")
    for key in ("Escape", "C-c"):
        with on_terminal(qtctl, "list", READ) as tmux:
            tmux.until("Enter: choose")
            tmux.send(key)
            tmux.until("none was chosen")
            tmux.until("exit 130")
    call = f"{sys.executable} -m qtctl list {READ}"
    with Tmux(
        ["bash", "-ic", f"{call} & wait $!; echo exit $?; sleep 600"], qtctl.environment()
    ) as tmux:
        tmux.until("guests are running")
        tmux.until("exit 2")
    for words in ((), ("list", READ)):
        with Pty(words, qtctl.environment({"TERM": "dumb"})) as dumb:
            dumb.until("guests are running")
            dumb.until("qtctl -t PID")
            assert dumb.finish() == 2
        qtctl(*(words or ("repl",)), limit=None).said(2, "guests are running", first)


def test_a_view_goes_on_with_another_guest(qtctl: Qtctl, guests: tuple[str, str]) -> None:
    first, second = guests
    with on_terminal(qtctl, "pane", READ, "--here", "--where", "nsectors == 1") as tmux:
        choose(tmux, first)
        tmux.until(f"{name(1)}  ")
        tmux.until(READ)
        assert READ in enabled(qtctl, first)
        tmux.send("g")
        tmux.until("Enter: choose")
        tmux.send("Escape")
        tmux.until("h: help")
        with RealGuest(require("path"), image="idle", qmp=False) as deaf:
            tmux.send("g")
            choose(tmux, str(deaf.pid))
            assert f"{name(1)}  " in tmux.until("has no QMP monitor")
        tmux.send("t")
        tmux.until("SHARE")
        tmux.send("g")
        choose(tmux, second)
        eventually(lambda: not enabled(qtctl, first), "the first is given back")
        assert f"{name(2)}  " in tmux.until("SHARE")
        assert READ in enabled(qtctl, second)
        tmux.send("y")
        tmux.until("--view top")
        tmux.send("Escape")
        tmux.send("g")
        choose(tmux, first)
        eventually(lambda: not enabled(qtctl, second), "the second is given back")
        tmux.until("SHARE")
        tmux.send("q")
        shown = tmux.until("exit 0")
        assert shown.count(" read, ") == 3
    assert not enabled(qtctl, first)
    assert not enabled(qtctl, second)
    assert not qtctl.leases()


def test_a_signal_ends_the_prompt_while_the_list_is_shown(
    qtctl: Qtctl, guests: tuple[str, str]
) -> None:
    with Pty(("-t", guests[0]), qtctl.environment()) as prompt:
        prompt.until("qtctl>")
        prompt.send("\x07")
        prompt.until("Enter: choose")
        prompt.process.send_signal(signal.SIGTERM)
        assert prompt.finish() == 143
