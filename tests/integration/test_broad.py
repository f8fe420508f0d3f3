"""Switching on most of a guest: asked about on a terminal, refused in a script without --yes."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
from collections.abc import Iterator

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Running, eventually


class Terminal:
    """A terminal that a person sits at; qtctl gets the other end."""

    def __init__(self) -> None:
        self.own, self.theirs = pty.openpty()
        os.set_blocking(self.own, False)
        self.shown = b""

    def shows(self, text: bytes) -> bool:
        """Tell whether it shows ``text`` by now."""
        with contextlib.suppress(BlockingIOError):
            self.shown += os.read(self.own, 65536)
        return text in self.shown

    def types(self, text: bytes) -> None:
        """Type."""
        os.write(self.own, text)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.own)
    os.close(made.theirs)


def asked(qtctl: Qtctl, fake: FakeProcess, terminal: Terminal, *more: str) -> Running:
    """Start to enable everything, and wait for the question."""
    words = ("-t", fake.address, "enable", "*", *more)
    running = qtctl.start(*words, stdin=terminal.theirs, stderr=terminal.theirs)
    eventually(lambda: terminal.shows(b"[y/N] "), "a question")
    assert b"'*' takes in" in terminal.shown
    assert not fake.tell()["enabled"], "nothing is switched before the answer"
    return running


def test_a_script_has_to_say_yes(qtctl: Qtctl, fake: FakeProcess) -> None:
    target = ("-t", fake.address)
    for words in (("*",), ("*", "--for", "50ms"), ("*", "--except", "qmp_*")):
        qtctl(*target, "enable", *words).said(2, "takes in", fake.address, "--yes")
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()
    qtctl(*target, "enable", "*", "--dry-run").said(0)
    qtctl(*target, "enable", "virtio_*").said(0)
    qtctl(*target, "disable", "*").said(0)
    qtctl(*target, "tail", "*", "--duration", "50ms").said(0)
    qtctl(*target, "enable", "*", "--yes").said(0)
    assert len(fake.tell()["enabled"]) > 4000


def test_a_person_is_asked(qtctl: Qtctl, fake: FakeProcess, terminal: Terminal) -> None:
    for answer in (b"\n", b"n\n", b"\x04", b"what?\n"):
        terminal.shown = b""
        running = asked(qtctl, fake, terminal)
        terminal.types(answer)
        assert running.finish().code == 2
        assert not fake.tell()["enabled"]
    terminal.shown = b""
    running = asked(qtctl, fake, terminal)
    terminal.types(b"y\n")
    assert running.finish().code == 0
    assert len(fake.tell()["enabled"]) > 4000


def test_ctrl_c_is_an_answer(qtctl: Qtctl, fake: FakeProcess, terminal: Terminal) -> None:
    running = asked(qtctl, fake, terminal, "--for", "1s")
    running.signal(signal.SIGINT)
    assert running.finish().code == 130
    assert not fake.tell()["enabled"]
