"""The tour of ``qtctl demo``: commands run on a guest, step by step, as their user would type them.

On a terminal each command has the terminal for itself, and Enter goes to the next step. Elsewhere
the first lines of each are printed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import termios
import textwrap
import tty
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qtctl import config
from qtctl.commands.context import Context
from qtctl.text.style import counted

READ_S = 3.0
"""How long the output of a step stays before ``--auto`` goes on."""
_TYPED_S = 1.0
_WIDTH = 100
_LEAVES = (b"q", b"\x1b", b"\x04", b"")
_ENDS = {b"p": "repl", b"v": "pane --here 'virtio_blk_*'"}
"""The keys at the end of the tour, and the verbs that they start on the guest."""

_READ = "virtio_blk_handle_read"


class TourStep(NamedTuple):
    """One step: its title, what it shows, and its commands, without ``qtctl``.

    Each command has the number of lines that are printed of it in a pipe.
    """

    title: str
    about: str
    commands: tuple[tuple[str, int], ...]


STEPS = (
    TourStep(
        "Find the guest",
        "A QEMU with a QMP socket is all that it takes. `ps` asks the kernel, not the guest.",
        (("ps", 3),),
    ),
    TourStep(
        "What can be traced",
        "Events by name or pattern; an event has typed arguments.",
        (("list 'virtio_blk_*'", 3), (f"info {_READ}", 5)),
    ),
    TourStep(
        "Follow, with a filter",
        "Events are on while `tail` runs. This guest reads one disk in small pieces and, now and "
        "then, another in bigger ones: the filter picks these.",
        (
            ("tail 'virtio_blk_*' --max-events 4", 4),
            (f"tail {_READ} --where 'nsectors > 1' --max-events 3 --time delta", 4),
        ),
    ),
    TourStep(
        "What it costs",
        "`probe` switches events on for a moment and counts what they would log.",
        (("probe 'virtio_*' 'memory_region_ops_*' --each 1s", 3),),
    ),
    TourStep(
        "Latency as a picture",
        "From a request to its end, by size: which of the disks is slow?",
        ((f"latency {_READ} virtio_blk_req_complete --by nsectors --duration 5s", 6),),
    ),
    TourStep(
        "A flood, and its guard",
        "Why is the processor busy meanwhile? The firmware polls a clock until the slow disk has "
        "answered. `--guard` switches off what is louder than its limit.",
        (("top 'memory_region_ops_*' --by name --once --interval 3s --guard 500", 4),),
    ),
    TourStep(
        "Given back",
        "Events of `enable` stay on until they are changed; `restore` puts everything back as it "
        "was found. Other verbs do so when they end, also on Ctrl-C.",
        ((f"enable {_READ}", 1), ("status", 3), ("restore", 1)),
    ),
)
"""The tour."""

Run = Callable[[str, int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Tour:
    """The tour on a guest; ``env`` is the environment of its commands, with the guest as target.

    ``run`` runs a command, prints at most so many lines of it, and returns its exit code. ``key``
    returns a key that was pressed, b"" at the end of input; None: nobody presses any.
    """

    context: Context
    run: Run
    key: Callable[[], Awaitable[bytes]] | None = None
    auto: bool = False

    async def all(self) -> int:
        """Show all steps, and what may be done then; return the first exit code that is not 0."""
        code = 0
        for number, step in enumerate(STEPS, 1):
            self._print(*self._head(f"{number}/{len(STEPS)} {step.title}", step.about))
            for command, lines in step.commands:
                code = await self._show(command, lines) or code
            if self.auto:
                await asyncio.sleep(READ_S)
            elif self.key is not None and number < len(STEPS):
                pressed = await self._pressed("[Enter] next  [q] leave")
                if pressed in _LEAVES:
                    return code
        while self.key is not None:
            end = _ENDS.get(await self._pressed("[p] prompt  [v] view  [Enter] end"))
            if end is None:
                break
            await self._show(end, 0)
        return code

    async def _show(self, command: str, lines: int) -> int:
        style = self.context.out_style
        self._print(style.paint("$ ", "faint") + style.paint(f"qtctl {command}", "key"))
        if self.auto:
            await asyncio.sleep(_TYPED_S)
        code = await self.run(command, lines)
        return 0 if code == 130 else code  # it was interrupted to go on

    async def _pressed(self, keys: str) -> bytes:
        """Show which keys there are while one is waited for, and return it."""
        assert self.key is not None
        sys.stdout.write(self.context.out_style.paint(keys, "note"))
        sys.stdout.flush()
        try:
            return (await self.key()).lower()
        finally:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    def _head(self, title: str, about: str) -> list[str]:
        style = self.context.out_style
        if not style.terminal:
            return [f"# {title}: {about}"]
        return ["", style.paint(title, "event"), *textwrap.wrap(about, min(style.width, _WIDTH))]

    def _print(self, *lines: str) -> None:
        self.context.write(lines)


def tour_of(context: Context, target: str, *, color: str, auto: bool) -> Tour:
    """Return the tour on the guest ``target``: for a terminal, or for a pipe or a prompt."""
    env = {**os.environ, "QTCTL_TARGET": target, config.VARIABLE: ""}  # as the steps say
    if not context.out_style.terminal or context.owner is not None:

        async def run_cut(command: str, lines: int) -> int:
            return await _run_cut(context, ["-q", *shlex.split(command)], env, lines)

        return Tour(context, run_cut)

    async def run(command: str, lines: int) -> int:
        return await _run(context, ["--color", color, *shlex.split(command)], env)

    waits = not auto and sys.stdin.isatty()
    return Tour(context, run, _key if waits else None, auto=not waits)


_QTCTL = (sys.executable, "-m", "qtctl")


async def _run(context: Context, words: Sequence[str], env: dict[str, str]) -> int:
    """Run a command on this terminal, where Ctrl-C ends it alone; return its exit code."""
    before, context.interrupt = context.interrupt, lambda: None
    process = await asyncio.create_subprocess_exec(*_QTCTL, *words, env=env)
    try:
        return await process.wait()
    finally:
        context.interrupt = before
        await _end(process)


async def _run_cut(context: Context, words: Sequence[str], env: dict[str, str], most: int) -> int:
    """Run a command and print the first lines of what it prints; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *_QTCTL,
        *words,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await process.communicate()
    finally:
        await _end(process)
    lines = printed.decode(errors="replace").splitlines()
    if len(lines) > most:
        lines[most - 1 :] = [f"({counted(len(lines) - most + 1, 'more line')})"]
    context.write(lines)
    assert process.returncode is not None
    return process.returncode


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let a command that still runs give back the guest, and wait for its end."""
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def _key() -> bytes:
    """Return the bytes of a key that is pressed from now on."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, ready.set)
    try:
        tty.setcbreak(fd)  # drops what was typed before
        await ready.wait()
        return os.read(fd, 64)
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
