"""The pages for users: their examples, and which guest runs them.

An example is a line with ``$`` in a block of ``console``. A test runs it in a shell where
``qtctl`` is this checkout's, and compares what it prints with what the page shows: numbers and
addresses may differ, and a line ``...`` stands for any number of lines.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(path.relative_to(TOP)) for path in TOP.glob("docs/**/*.md"))]


class Example(NamedTuple):
    """A command of a page, and what the page shows below it."""

    command: str
    shown: str


def blocks(page: str, language: str) -> list[str]:
    """Return the text of the code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (TOP / page).read_text(), re.M | re.S)


def examples(page: str) -> Iterator[Example]:
    """Yield the examples of a page; a line that ends with a backslash goes on in the next."""
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command = re.match(r"(.*\\\n)*.*", part)
            assert command is not None
            yield Example(command[0], part[command.end() + 1 :])


def shape(text: str) -> list[str]:
    """Return the lines of what an example printed, without what differs from run to run."""
    text = re.sub(r"unix:\S+", "ADDRESS", text)
    text = re.sub(r"0x[0-9a-f]+", "HEX", text)
    # Which region is busiest is the machine's affair: SeaBIOS polls the timer while it waits.
    text = re.sub(r"^HEX (apm-io|acpi-tmr)\t", "HEX REGION\t", text, flags=re.M)
    text = re.sub(r"\d[\d,]*(\.\d+)?", "N", text)
    return re.sub(r"N (ns|us|ms|s)\b", "N TIME", text).splitlines()


def as_shown(shown: str, printed: str) -> bool:
    """Return whether an example printed what its page shows."""
    wanted = [re.escape(line) for line in shape(shown)]
    pattern = "".join(r"(?:.*\n)*" if line == r"\.\.\." else f"{line}\n" for line in wanted)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in shape(printed))) is not None


def shell(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which ``qtctl`` is this checkout's; its script is in ``home``."""
    (home / "bin").mkdir()
    script = home / "bin" / "qtctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m qtctl "$@"\n')
    script.chmod(0o755)
    return {**environment, "PATH": f"{home / 'bin'}:{environment['PATH']}"}


def run(example: Example, folder: Path, environment: Mapping[str, str], seconds: float) -> None:
    """Run an example in a folder; raise AssertionError unless it prints what is shown."""
    ran = subprocess.run(
        ["bash", "-c", example.command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ran.returncode == 0, (example.command, ran.stdout, ran.stderr)
    printed = (example.command, ran.stdout, ran.stderr)
    if example.command == "qtctl ps":  # other guests may run on this machine
        assert set(shape(example.shown)) <= set(shape(ran.stdout)), printed
        return
    assert as_shown(example.shown, ran.stdout), printed
