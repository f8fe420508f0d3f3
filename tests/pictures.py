"""Draws docs/pictures: prompt, pane and top as a real tmux shows them on a real guest, and a tour.

    ./dev pictures [NAME...]

What ``capture-pane -e`` gives becomes SVG without fonts or addresses from elsewhere. The tour
moves: a row of the screen that lasts is drawn once and switched on and off by SMIL. What does
not move pictures shows its last screen.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
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
_TEMPLATE = re.sub(r"\s*@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.S).replace(
    "Fira Code, monospace", "monospace"
)
_LINE_HEIGHT = 20 * 1.22
"""As rich draws a row, in units of the picture."""
_TOUR = (112, 24)
"""The size of the tour's window."""


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
    write(name, console.export_svg(title=title, code_format=_TEMPLATE, unique_id=f"qtctl-{name}"))


def write(name: str, svg: str) -> None:
    """Write a picture's file."""
    (FOLDER / f"{name}.svg").write_text(svg)
    print(f"docs/pictures/{name}.svg")


class Film:
    """Takes what a tmux window shows, for the moving picture; seconds are those of the picture."""

    def __init__(self, tmux: Tmux, columns: int, rows: int) -> None:
        self._tmux, self._columns, self._rows = tmux, columns, rows
        self._seconds = 0.0
        self._shown: dict[tuple[int, str], list[tuple[float, float]]] = {}

    def hold(self, seconds: float) -> None:
        """Show the screen as it is now for so long."""
        begin, self._seconds = self._seconds, self._seconds + seconds
        for row, line in enumerate(self._tmux.screen("", "-e").split("\n")[: self._rows]):
            if line.strip():
                spans = self._shown.setdefault((row, line), [])
                if spans and spans[-1][1] == begin:
                    begin_of_span, _ = spans.pop()
                    spans.append((begin_of_span, self._seconds))
                else:
                    spans.append((begin, self._seconds))

    def live(self, seconds: float) -> None:
        """Show what happens on the screen in the next seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.hold(0.25)
            time.sleep(0.25)

    def type(self, line: str) -> None:
        """Show how a line is typed."""
        for at in range(0, len(line), 3):
            self._tmux.send("-l", "--", line[at : at + 3])
            typed = line[: at + 3].rstrip()
            eventually(partial(self._shows, typed), "the keys")
            self.hold(0.12)
        self.hold(0.6)

    def _shows(self, text: str) -> bool:
        return text in self._tmux.screen()

    def save(self, name: str, title: str) -> None:
        """Write the picture."""
        lines = list(dict.fromkeys(line for _, line in self._shown))
        console = Console(record=True, width=self._columns, file=io.StringIO(), force_terminal=True)
        console.print(Text("\n", no_wrap=True).join(map(Text.from_ansi, lines)), crop=False)
        parts = "\0".join(("{styles}", "{lines}", "{backgrounds}", "{matrix}"))
        styles, clips, rects, texts = console.export_svg(
            title=title, code_format=parts, unique_id=f"qtctl-{name}"
        ).split("\0")
        drawn: dict[int, list[str]] = {}
        for element in re.findall(r"<rect[^>]*/>", rects):
            y = float(re.search(r' y="([^"]*)"', element)[1])  # type: ignore[index]
            drawn.setdefault(int(y / _LINE_HEIGHT), []).append(element)
        for element in re.findall(r"<text.*?</text>", texts, re.S):
            number = re.search(r"-line-(\d+)\)", element)
            assert number is not None, element
            drawn.setdefault(int(number[1]), []).append(element)
        groups = [
            self._group(row, lines.index(line), spans, drawn.get(lines.index(line), []))
            for (row, line), spans in self._shown.items()
        ]
        blank = Console(record=True, width=self._columns, file=io.StringIO(), force_terminal=True)
        blank.print("\n" * (self._rows - 1))
        template = _TEMPLATE.replace("{styles}", "\0styles").replace("{lines}", "\0lines")
        template = template.replace("{backgrounds}", "").replace("{matrix}", "\0matrix")
        svg = blank.export_svg(title=title, code_format=template, unique_id=f"qtctl-{name}")
        for place, text in (("styles", styles), ("lines", clips), ("matrix", "\n".join(groups))):
            svg = svg.replace(f"\0{place}", text)
        write(name, svg)

    def _group(
        self, row: int, line: int, spans: list[tuple[float, float]], elements: list[str]
    ) -> str:
        """Return a line at a row of the screen, which shows while its spans last."""
        times, values = [0.0], [0]
        for begin, end in spans:
            if begin == times[-1]:
                values[-1] = 1
            else:
                times.append(begin)
                values.append(1)
            if end < self._seconds:
                times.append(end)
                values.append(0)
        keys = ";".join(f"{one / self._seconds:.4f}".rstrip("0") for one in times)
        move = f"translate(0 {(row - line) * _LINE_HEIGHT:.1f})"
        return (
            f'<g transform="{move}" opacity="{values[-1]}"><animate attributeName="opacity" '
            f'calcMode="discrete" dur="{self._seconds:.1f}s" repeatCount="indefinite" '
            f'keyTimes="{keys}" values="{";".join(map(str, values))}"/>{"".join(elements)}</g>'
        )


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


def tour(tmux: Tmux) -> Film:
    """Film the first minute: find the guest, follow it, its rates, a latency, all restored."""
    columns, rows = _TOUR
    film = Film(tmux, columns, rows)

    def ready(what: str) -> None:
        eventually(lambda: tmux.screen().rstrip().split("\n")[-1] == "$", f"the end of {what}")

    def shows(line: str, seconds: float) -> None:
        film.type(line)
        tmux.send("Enter")
        ready(line)
        film.hold(seconds)

    def clear() -> None:
        tmux.enter("clear")
        eventually(lambda: tmux.screen().strip() == "$", "a clear screen")

    tmux.enter("PS1='$ '")
    clear()
    film.hold(1)
    shows("qtctl ps", 2)
    shows("qtctl probe 'virtio_blk_*'", 2.5)
    film.type("qtctl tail 'virtio_blk_*' --where 'nsectors == 1'")
    tmux.send("Enter")
    tmux.until("virtio_blk_handle_read ")
    film.live(3)
    tmux.send("C-c")
    ready("tail")
    film.hold(2.5)
    clear()
    film.type("qtctl top '@virtio-blk'")
    tmux.send("Enter")
    tmux.until("virtio_blk_rw_complete")
    film.live(5)
    tmux.send("q")
    ready("top")
    clear()
    shows("qtctl latency virtio_blk_handle_read virtio_blk_req_complete --duration 3s", 4)
    shows("qtctl list --state enabled", 3)
    return film


SCENES: dict[str, tuple[str, int, int, Callable[[Tmux], Film | None]]] = {
    "prompt": ("qtctl", 132, 30, prompt),
    "pane": ("tmux: qtctl pane", 152, 18, pane),
    "top": ("qtctl top '@virtio-blk'", 100, 8, top),
    "tour": ("qtctl", *_TOUR, tour),
}


def main() -> int:
    """Draw the pictures that are named, or all."""
    qemu = find("path")
    if qemu is None:
        sys.exit("the pictures need qemu-system-x86_64 on PATH")
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENES:
        title, columns, rows, act = SCENES[name]
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
                if (film := act(tmux)) is None:
                    save(name, title, screen(tmux, columns), columns)
                else:
                    film.save(name, title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
