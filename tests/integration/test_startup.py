"""What starts quickly imports only what it needs."""

from __future__ import annotations

import re

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl

EVENT = "virtio_blk_handle_read"
HEAVY = {"numpy", "rich", "psutil", "asyncinotify", "prompt_toolkit", "difflib"}


def imported(qtctl: Qtctl, *words: str, code: int = 0) -> set[str]:
    """Run qtctl and return the modules that were imported on the way."""
    ran = qtctl(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert ran.code == code, ran
    found = set(re.findall(r"^import time: .*\| +([\w.]+)$", ran.err, re.MULTILINE))
    assert "qtctl.cli" in found
    return found


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("tail", "--help")])
def test_what_prints_text_needs_no_event_loop(qtctl: Qtctl, words: tuple[str, ...]) -> None:
    found = imported(qtctl, *words)
    assert not found & HEAVY
    if words[0] != "tail":
        assert not found & {"asyncio", "socket", "json", "qemu.qmp"}
        assert not {name for name in found if name.startswith("qtctl.commands.s")}


def test_a_usage_error_of_the_command_line_is_reported_without_a_guest(qtctl: Qtctl) -> None:
    assert not imported(qtctl, "list", "--state", "nosuch", code=2) & HEAVY


@pytest.mark.parametrize("words", [("enable", EVENT), ("disable", EVENT), ("list",), ("restore",)])
def test_a_control_verb_imports_no_data_plane(
    qtctl: Qtctl, fake: FakeProcess, words: tuple[str, ...]
) -> None:
    found = imported(qtctl, "-t", fake.address, *words)
    assert not found & HEAVY
    assert not {name for name in found if name.startswith(("qtctl.records.", "qtctl.ui."))}


def test_ps_starts_without_heavy_parts(qtctl: Qtctl) -> None:
    assert not imported(qtctl, "ps") & {"numpy", "rich", "prompt_toolkit"}
