"""Draws docs/pictures: prompt, pane and top as a real tmux shows them on a real guest.

    ./dev pictures

What ``capture-pane -e`` gives becomes SVG without fonts or addresses from elsewhere.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.qemus import RealGuest, find
from tests.running import TOP, Qtctl, eventually
from tests.terminals import Tmux

FOLDER = TOP / "docs" / "pictures"
SLOW = json.dumps(
    {
        "execute": "block_set_io_throttle",
        "arguments": {
            **{"device": "virtio0", "iops": 12, "iops_rd": 0, "iops_wr": 0},
            **{"bps": 0, "bps_rd": 0, "bps_wr": 0},
        },
    }
)
"""Lets the guest read so slowly that people can follow."""
_EXTRA = ("-name", "vm1,debug-threads=on", "-msg", "timestamp=on")
_BARS = re.compile("[▁-█]{12}")
_FONTS = re.compile(r"\s*@font-face \{\{.*?\}\}\n", re.S)


def screen(tmux: Tmux, columns: int) -> Text:
    """Return what a window shows, its panes side by side."""
    listed = tmux.run("list-panes", "-F", "#{pane_left} #{pane_width} #{pane_id}")
    panes = sorted(
        (int(left), int(width), name) for left, width, name in map(str.split, listed.splitlines())
    )
    drawn = [
        [Text.from_ansi(line) for line in tmux.screen(name, "-e").split("\n")] for *_, name in panes
    ]
    rows = []
    for row in zip(*drawn, strict=False):
        for text, (_, width, _) in zip(row, panes, strict=True):
            text.truncate(width, pad=True)
        rows.append(Text.assemble(("│", "green")).join(row))
    while rows and not rows[-1].plain.strip(" │"):
        rows.pop()
    return Text("\n", no_wrap=True).join(rows)


def save(name: str, title: str, text: Text, columns: int) -> None:
    """Write a picture."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(text, crop=False)
    template = _FONTS.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", "monospace")
    svg = console.export_svg(title=title, code_format=template, unique_id=f"qtctl-{name}")
    (FOLDER / f"{name}.svg").write_text(svg)
    print(f"docs/pictures/{name}.svg")


def prompt(tmux: Tmux) -> None:
    """Type at the prompt: a flood, a few records, and a word that is being completed."""
    tmux.enter("clear; qtctl")
    tmux.until("vm1 running | 0 on")
    tmux.enter("tail memory_region_ops_* --duration 1500ms")
    tmux.until("filtered")
    tmux.enter("tail virtio_blk_* --where 'nsectors == 1' --max-events 5")
    tmux.until(" 5 shown")
    tmux.send("-l", "info blkread")
    tmux.until("req, sector, nsectors")
    tmux.until("| 0 on")


def pane(tmux: Tmux) -> None:
    """Work in one pane and watch the other."""
    tmux.enter("clear; qtctl pane --size 70%")
    eventually(lambda: "%1" in tmux.run("list-panes", "-F", "#{pane_id}"), "the pane")
    tmux.until("vm1", "%1")
    for line in ("enable '@virtio-blk' -q", "mark 'before reset'", "qmp system_reset"):
        eventually(lambda: tmux.screen("%0").rstrip().endswith(("#", "$")), "the shell's prompt")
        tmux.enter(f"qtctl {line}", "%0")
    tmux.until("RESET", "%1")
    eventually(lambda: tmux.screen("%0").rstrip().endswith(("#", "$")), "the shell's prompt")


def top(tmux: Tmux) -> None:
    """Look at rates."""
    tmux.enter("clear; qtctl top '@virtio-blk'")
    tmux.until("virtio_blk_rw_complete")
    eventually(lambda: _BARS.search(tmux.screen()), "a line of bars")


SCENES: dict[str, tuple[str, int, int, Callable[[Tmux], None]]] = {
    "prompt": ("qtctl", 132, 30, prompt),
    "pane": ("tmux: qtctl pane", 152, 18, pane),
    "top": ("qtctl top '@virtio-blk'", 100, 8, top),
}


def main() -> int:
    """Draw all pictures."""
    qemu = find("path")
    if qemu is None:
        sys.exit("the pictures need qemu-system-x86_64 on PATH")
    FOLDER.mkdir(exist_ok=True)
    for name, (title, columns, rows, act) in SCENES.items():
        with (
            tempfile.TemporaryDirectory(prefix="qtctl-", ignore_cleanup_errors=True) as folder,
            Qtctl(Path(folder) / "home") as qtctl,
            RealGuest(qemu, image="virtio-blk", extra=_EXTRA, stderr=subprocess.DEVNULL) as guest,
        ):
            script = Path(folder) / "qtctl"
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -m qtctl "$@"\n')
            script.chmod(0o755)
            env = qtctl.environment(
                {
                    "PATH": f"{folder}:{os.environ['PATH']}",
                    "QTCTL_TARGET": guest.address,
                    "TERM": "xterm-256color",
                    "PS1": "$ ",
                }
            )
            qtctl("-t", guest.address, "qmp", SLOW).said(0)
            with Tmux(("sh",), env, columns=columns, rows=rows) as tmux:
                act(tmux)
                save(name, title, screen(tmux, columns), columns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
