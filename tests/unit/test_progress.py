"""Progress of long work is drawn on a terminal, at any width, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from qtctl.commands import context as context_module
from qtctl.commands import progress
from qtctl.commands.context import Context
from qtctl.commands.places import Out
from qtctl.commands.progress import Progress, bytes_progress
from qtctl.commands.replaying import print_all
from qtctl.leases.leasing import new_owner
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.text.style import Style

MIB = 1 << 20


Read = Callable[[], str]


@pytest.fixture
def err(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Read:
    monkeypatch.setattr(progress, "REDRAW_S", 0.0)
    monkeypatch.setattr(context_module, "REDRAW_S", 0.0)
    return lambda: capsys.readouterr().err


def drawn(err: Read) -> str:
    return err().removeprefix("\r").removesuffix("\x1b[K")


def test_bytes_have_a_bar_a_share_and_the_time_left(err: Read) -> None:
    bytes_progress(Context(err_style=Style(80)), 100 * MIB).update(25 * MIB)
    line = drawn(err)
    assert line.startswith("━")
    assert "25%  25 MiB of 100 MiB" in line
    assert line.endswith("left")
    assert cell_len(line) < 80


def test_without_a_total_the_amount_is_shown(err: Read) -> None:
    bytes_progress(Context(err_style=Style(80)), None).update(3 * MIB)
    line = drawn(err)
    assert line.startswith("3 MiB  ")
    assert "%" not in line


@pytest.mark.parametrize("width", [1, 2, 10, 40])
@pytest.mark.parametrize("unicode", [True, False])
def test_it_never_reaches_the_last_column(err: Read, width: int, unicode: bool) -> None:
    context = Context(err_style=Style(width, unicode=unicode))
    Progress(context, 10, lambda done: f"{done} of 10").update(5)
    line = drawn(err)
    assert cell_len(line) <= max(1, width - 1)
    assert unicode or line.isascii()


@pytest.mark.parametrize("context", [Context(), Context(err_style=Style(80), quiet=True)])
def test_there_is_none_in_a_pipe_or_when_quiet(err: Read, context: Context) -> None:
    line = bytes_progress(context, 100)
    line.update(50)
    line.clear()
    assert err() == ""


def test_it_leaves_an_empty_line(err: Read) -> None:
    line = bytes_progress(Context(err_style=Style(80)), 100)
    line.update(50)
    line.clear()
    assert err().endswith("\r\x1b[K")


@pytest.mark.parametrize(("path", "shown"), [("file", True), (None, False)])
async def test_reading_a_file_shows_progress_unless_records_go_to_the_terminal(
    err: Read, tmp_path: Path, path: str | None, shown: bool
) -> None:
    out = Out(tmp_path / path if path else None)
    context = Context(out_style=Style(80), err_style=Style(80), quiet=False)
    items: list[list[Item] | None] = [[], [], None]
    replay: Any = SimpleNamespace(
        size=100, taken=50, counts=Counts(), remark="", step=lambda: items.pop(0)
    )
    formatter: Any = SimpleNamespace(ended=lambda counts: iter(()))
    output = context.output(Out(tmp_path / "lines"))  # only ``out`` decides
    await print_all(context, replay, formatter, output, out)
    assert ("50%" in err()) is shown


async def test_a_wait_shows_what_it_waits_for(err: Read) -> None:
    context = Context(err_style=Style(30))
    with context.waiting(lambda: "waiting for unix:/run/vm1.sock"):
        while not (shown := err()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        assert shown.startswith("\r0 s  waiting for unix:/run")
        assert cell_len(shown.split("\x1b[K")[0].strip("\r")) < 30
        context.say("news")
        assert "\r\x1b[Kqtctl: news\n" in err()
        while not err():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    assert err().endswith("\r\x1b[K")


@pytest.mark.parametrize(
    "context",
    [Context(), Context(err_style=Style(80), quiet=True)],
)
async def test_a_wait_shows_nothing_in_a_pipe_or_when_quiet(err: Read, context: Context) -> None:
    with context.waiting(lambda: "waiting"):
        await asyncio.sleep(0.01)
    assert err() == ""


async def test_in_a_console_a_wait_is_a_message(err: Read) -> None:
    with Context(err_style=Style(80), owner=new_owner()).waiting(lambda: "waiting"):
        while not (shown := err()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    assert (shown, err()) == ("qtctl: waiting\n", "")
