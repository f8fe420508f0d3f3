"""The view at the sizes and with the colours that terminals have, in a real tmux."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from qtctl.text.theme import IDENTITIES
from tests.fake_qmp import FakeProcess
from tests.running import Qtctl
from tests.terminals import Tmux

READ = "virtio_blk_handle_read"
RECORDS = 60

_SGR = re.compile(r"\x1b\[([\d;:]*)m")


@contextmanager
def view(
    qtctl: Qtctl,
    fake: FakeProcess,
    declared: Path,
    size: tuple[int, int] = (80, 24),
    env: Mapping[str, str] | None = None,
) -> Iterator[Tmux]:
    """Show a view of a guest that has logged ``RECORDS`` records, with these variables set."""
    columns, rows = size
    settings = [f"{name}={value}" for name, value in (env or {}).items()]
    command = [
        *("env", "-u", "COLORTERM", "-u", "COLORFGBG", "-u", "NO_COLOR", *settings),
        *(sys.executable, "-m", "qtctl", "-t", fake.address, "--events-all", str(declared)),
        *("pane", "--here", READ),
    ]
    with Tmux(command, qtctl.environment(), columns=columns, rows=rows) as tmux:
        tmux.until(" read  ")
        lines = [
            f"{READ} vdev 0x55f0 req 0x{0x7F00 + number % 5:x} sector {number} nsectors 1"
            for number in range(RECORDS)
        ]
        fake.tell(emit=lines)
        tmux.until(f"{RECORDS} read")
        yield tmux
        tmux.send("q")


def colours(tmux: Tmux) -> set[str]:
    """Return the colours of all that is shown: SGR parameters, such as 36 or 38;5;120."""
    found: set[str] = set()
    for match in _SGR.finditer(tmux.screen("", "-e")):
        text = match[1].replace(":", ";")
        found.update(re.findall(r"(?<![\d;])(?:[34]8;(?:5;\d+|2;\d+;\d+;\d+)|\d+)", text))
    return {one for one in found if one.startswith(("38", "3", "9")) and one not in ("3", "39")}


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (120, 40), (200, 50)])
def test_a_record_has_a_row_at_every_size(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, size: tuple[int, int]
) -> None:
    columns, rows = size
    last = f"sector={RECORDS - 1} nsectors=1"
    with view(qtctl, fake, declared, size) as tmux:
        shown = tmux.until(last if columns >= 120 else "handle_read").splitlines()
    assert len(shown) <= rows
    assert all(len(line) <= columns for line in shown)
    # All but the title and the bar of keys. The last column is the bar at the side.
    records = [line[: columns - 1].rstrip() for line in shown if "handle_read" in line]
    assert len(records) == min(RECORDS, rows - 2)
    assert all(line.startswith("~") for line in records)  # a log without time stamps
    end = "nsectors=1" if columns >= 120 else "…"
    assert [line for line in records if not line.endswith(end)] == []


DEPTHS = {
    "none": ({"NO_COLOR": "1"}, r"$."),
    "dumb colours": ({"TERM": "linux"}, r"\d+"),
    "256": ({"TERM": "xterm-256color"}, r"\d+|38;5;\d+"),
    "true": ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, r"\d+|38;2;[\d;]+"),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("background", ["15;0", "0;15"])
def test_colours_are_those_that_the_terminal_has(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, depth: str, background: str
) -> None:
    env, allowed = DEPTHS[depth]
    with view(qtctl, fake, declared, (120, 40), {**env, "COLORFGBG": background}) as tmux:
        tmux.until(f"sector={RECORDS - 1}")
        found = colours(tmux)
    assert [one for one in found if not re.fullmatch(allowed, one)] == []
    assert bool(found) == (depth != "none")
    if depth == "true":
        palette = IDENTITIES["dark" if background == "15;0" else "light"]
        rgb = {";".join(map(str, bytes.fromhex(one[1:]))) for one in palette}
        used = {one.removeprefix("38;2;") for one in found if one.startswith("38;2;")}
        assert used
        assert used <= rgb
