"""A backend is one folder and one row, an export format and a verb one module and one row each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.extension import ROWS
from tests.fake_qmp import FakeProcess
from tests.running import TOP, Qtctl

Extended = Callable[..., dict[str, Any]]
EVENT = "virtio_blk_handle_read"
PARTS = {"echo": "backends", "names.py": "writers", "greet.py": "commands"}


@pytest.fixture
def extended(tmp_path: Path) -> Extended:
    """Copy the package, add one part and one row each; return what makes a call use the copy."""
    copy = tmp_path / "copy"
    shutil.copytree(TOP / "qtctl", copy / "qtctl", ignore=shutil.ignore_patterns("__pycache__"))
    for part, room in PARTS.items():
        source, target = TOP / "tests/extension" / part, copy / "qtctl" / room / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    for file, (opening, row) in ROWS.items():
        before, found, after = (copy / file).read_text().partition(opening)
        assert found, file
        (copy / file).write_text(f"{before}{opening}        {row}\n{after}")
    return lambda **env: {"cwd": copy, "env": {"PYTHONPATH": str(copy), **env}}


def test_a_backend_is_one_folder_and_one_row(
    qtctl: Qtctl, fake: FakeProcess, extended: Extended, tmp_path: Path, declared: Path
) -> None:
    (tmp_path / "lines").write_text(f"{EVENT} vdev 0x1 req 0x2 sector 3 nsectors 4\nother\n")
    echo = extended(QTCTL_ECHO=str(tmp_path / "lines"))
    status = qtctl("-t", fake.address, "--json", "status", **echo)
    assert "echo" in json.loads(status.said(0).out)["backends"]
    words = ("--events-all", str(declared), "tail", EVENT, "--backend", "echo")
    ran = qtctl("-t", fake.address, *words, "--max-events", "1", "--ndjson", **echo).said(0)
    [event] = [one for line in ran.out.splitlines() if (one := json.loads(line))["type"] == "event"]
    assert (event["backend"], event["args"]["sector"]) == ("echo", 3)
    unset = qtctl("-t", fake.address, *words, **extended())
    unset.said(1, "the echo backend reads the file that $QTCTL_ECHO names")
    assert "no backend is called 'echo'" in qtctl("-t", fake.address, *words).err


def test_a_format_is_one_module_and_one_row(
    qtctl: Qtctl, extended: Extended, tmp_path: Path, declared: Path
) -> None:
    (tmp_path / "log").write_text(f"{EVENT} vdev 0x1 req 0x2 sector 3 nsectors 4\n" * 2)
    words = ("--events-all", str(declared), "export", "--to", "names", str(tmp_path / "log"))
    assert qtctl(*words, **extended()).said(0).out.splitlines() == [EVENT, EVENT, "2 records"]
    assert "names: one name a line" in qtctl("export", "--help", **extended()).said(0).out
    offered = qtctl("completion", "zsh", "qtctl", "export", "--to", "na", **extended()).said(0)
    assert offered.out.startswith("names")


def test_a_verb_is_one_module_and_one_row(
    qtctl: Qtctl, fake: FakeProcess, extended: Extended, tmp_path: Path
) -> None:
    assert qtctl("-t", fake.address, "greet", **extended()).said(0).out.startswith("hello ")
    assert "print the name of the guest" in qtctl("--help", **extended()).said(0).out
    (tmp_path / "script").write_text("greet\n")
    with (tmp_path / "script").open() as script:
        ran = qtctl("-t", fake.address, "repl", **extended(), stdin=script).said(0)
    assert ran.out.startswith("hello ")
    offered = qtctl("completion", "fish", "qtctl", "gr", **extended()).said(0).out
    assert offered.startswith("greet")
