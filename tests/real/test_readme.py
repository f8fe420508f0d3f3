"""Every example in the documentation runs, and answers in the shape that is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemus import RealGuest, require
from tests.running import PATIENCE_SECONDS, Qtctl
from tests.samples import capture

pytestmark = pytest.mark.qemu

TOP = Path(__file__).parents[2]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (TOP / name).read_text(), re.M | re.S)


def examples() -> list[tuple[str, str]]:
    """Return (command, what it shows) for each ``$`` line of the README, in order."""
    found = []
    for block in blocks("README.md", "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def shape(text: str) -> list[str]:
    text = re.sub(r"unix:\S+", "ADDRESS", text)
    text = re.sub(r"0x[0-9a-f]+", "HEX", text)
    # Which region is busiest is the machine's affair: SeaBIOS polls the timer while it waits.
    text = re.sub(r"^HEX (apm-io|acpi-tmr)\t", "HEX REGION\t", text, flags=re.M)
    return re.sub(r"\d+", "N", text).splitlines()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give an environment in which ``qtctl`` is this checkout's and one guest runs."""
    home = tmp_path_factory.mktemp("readme")
    (home / "bin").mkdir()
    script = home / "bin" / "qtctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m qtctl "$@"\n')
    script.chmod(0o755)
    (home / "trace-4711").write_bytes(capture("qemu-7.2-simple-v4.bin"))
    extra = ["-name", "vm1", "-msg", "timestamp=on"]
    null = subprocess.DEVNULL
    with (
        Qtctl(home / "home") as qtctl,
        RealGuest(require("path"), image="virtio-blk", extra=extra, stderr=null) as guest,
    ):
        path = f"{home / 'bin'}:{os.environ['PATH']}"
        yield qtctl.environment({"PATH": path, "QTCTL_TARGET": guest.address, "PWD": str(home)})


@pytest.mark.parametrize(("line", "shown"), examples())
def test_every_readme_example_answers_as_shown(
    command: dict[str, str], line: str, shown: str
) -> None:
    ran = subprocess.run(
        line,
        shell=True,
        cwd=command["PWD"],
        env=command,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    expected, got = shape(shown), shape(ran.stdout)
    if line == "qtctl ps":  # other guests may run on this machine
        assert expected[0] in got
        return
    if expected[-1:] == ["..."]:
        expected = expected[:-1]
        got = got[: len(expected)]
    assert got == expected


def test_the_readme_has_examples() -> None:
    assert len(examples()) >= 12


def test_the_program_in_the_api_documentation_runs(command: dict[str, str]) -> None:
    program = blocks("docs/api.md", "python")[0]
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=command,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"has 7 virtio-blk events", ran.stdout)
    assert re.search(r"^sector 0: \d+ requests$", ran.stdout, re.M)
