"""The tour of the demo: its commands are right, it is short in a pipe, and keys lead through it."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shlex
import sys
import termios
from types import SimpleNamespace

import pytest

from qtctl.commands import tour
from qtctl.commands.context import Context
from qtctl.commands.parsing import parse
from qtctl.commands.registry import COMMANDS
from qtctl.commands.tour import STEPS, Tour
from qtctl.text.style import Style

COMMANDS_SHOWN = [command for step in STEPS for command, _ in step.commands]


class Guide:
    """Notes the commands of a tour instead of running them, and presses ``keys``."""

    def __init__(self, keys: bytes = b"", code: int = 0) -> None:
        self.ran: list[str] = []
        self._keys = [bytes([key]) for key in keys]
        self._code = code

    async def run(self, command: str, lines: int) -> int:
        self.ran.append(command)
        print(*range(lines), sep="\n")
        return self._code

    async def key(self) -> bytes:
        return self._keys.pop(0)


@pytest.mark.parametrize("command", [*COMMANDS_SHOWN, "repl", "pane --here 'virtio_blk_*'"])
def test_every_command_is_one_of_qtctl(command: str) -> None:
    parse(shlex.split(command), COMMANDS, "0")


async def test_in_a_pipe_it_has_sixty_lines_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    guide = Guide()
    assert await Tour(Context(), guide.run).all() == 0
    lines = capsys.readouterr().out.splitlines()
    assert guide.ran == COMMANDS_SHOWN
    assert len(lines) <= 60 - 2  # what is said before and after
    assert [line for line in lines if line.startswith("$ ")] == [
        f"$ qtctl {command}" for command in COMMANDS_SHOWN
    ]
    assert not any("\x1b" in line for line in lines)


async def test_enter_leads_through_it_and_it_ends_where_one_wants_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guide = Guide(b"\n" * (len(STEPS) - 1) + b"pv\n")
    await Tour(Context(out_style=Style(40)), guide.run, guide.key).all()
    assert guide.ran == [*COMMANDS_SHOWN, "repl", "pane --here 'virtio_blk_*'"]
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 40 for line in lines if not line.startswith("$ "))


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x04"])
async def test_it_can_be_left_early(key: bytes) -> None:
    guide = Guide(b"\n" + key)
    await Tour(Context(), guide.run, guide.key).all()
    assert len(guide.ran) == sum(len(step.commands) for step in STEPS[:2])


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (1, 1), (130, 0)])
async def test_a_command_that_fails_is_its_exit_code(code: int, exit_code: int) -> None:
    assert await Tour(Context(), Guide(code=code).run).all() == exit_code


async def test_a_key_is_read_without_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: theirs))
    before = termios.tcgetattr(theirs)
    reading = asyncio.ensure_future(tour._key())
    while termios.tcgetattr(theirs)[3] & termios.ICANON:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    os.write(ours, b"x")
    assert await reading == b"x"
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


@pytest.mark.process
async def test_in_a_pipe_a_command_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert await tour._run_cut(Context(), ["help"], dict(os.environ), 3) == 0
    assert await tour._run_cut(Context(), ["nosuch"], dict(os.environ), 3) == 2
    first, _, more, error, *_ = capsys.readouterr().out.splitlines()
    assert first == "Switch QEMU's trace events on a running guest and print their records."
    assert re.fullmatch(r"\(\d\d more lines\)", more)
    assert "there is no verb" in error
