"""Manual pages hold the command table's texts, and groff and mandoc accept them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from qtctl import manual
from qtctl.commands.parsing import verb_parser
from qtctl.commands.registry import COMMANDS
from tests import needs

PAGES = manual.pages(COMMANDS, "1.2.3", "2026-11-23")


def rendered(path: Path) -> str:
    """Return a page as man prints it; fail on any warning."""
    environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    ran = subprocess.run(
        [needs.program("man", "man-db"), "--warnings", "--local-file", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not ran.stderr, ran.stderr
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", ran.stdout)


def test_every_verb_has_a_page() -> None:
    assert set(PAGES) == {"qtctl.1", *(f"qtctl-{verb}.1" for verb in COMMANDS.rows)}


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(PAGES[name])
    lint = [needs.program("mandoc", "mandoc"), "-T", "lint", "-W", "warning", str(path)]
    ran = subprocess.run(lint, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


@pytest.mark.parametrize("verb", ["enable", "tail", "sets", "completion"])
def test_man_shows_what_the_table_says(verb: str, tmp_path: Path) -> None:
    path = tmp_path / f"qtctl-{verb}.1"
    path.write_text(PAGES[path.name])
    row = COMMANDS.rows[verb]
    shown = rendered(path)
    for example in row.examples:
        assert f" {example}\n" in shown
    for argument in row.arguments:
        assert argument.flags[0].startswith("-") <= (argument.flags[0] in shown)
    words = " ".join(shown.split())
    assert " ".join(row.details.split()) in words
    assert row.summary in words


@pytest.mark.parametrize(("verb", "end"), [("on", "do ACTION"), ("run", "-- PROGRAM [ARG ...]")])
def test_the_usage_has_what_stands_behind_the_arguments(
    verb: str, end: str, tmp_path: Path
) -> None:
    assert verb_parser(COMMANDS.rows[verb]).format_usage().rstrip().endswith(f" {end}")
    path = tmp_path / "page.1"
    path.write_text(PAGES[f"qtctl-{verb}.1"])
    assert f"...] {end}" in " ".join(rendered(path).split())


def test_the_main_page_names_every_verb_and_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "qtctl.1"
    path.write_text(PAGES["qtctl.1"])
    shown = rendered(path)
    for row in COMMANDS.rows.values():
        assert f"qtctl-{row.name}(1)" in shown
    assert "124 time-out" in " ".join(shown.split())


def test_the_program_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    manual.main([str(tmp_path / "man")])
    assert {path.name for path in (tmp_path / "man").iterdir()} == set(PAGES)
    assert '"1970-01-01"' in (tmp_path / "man" / "qtctl.1").read_text()
