"""The pages say what the code does, their links lead somewhere, and the site needs no network."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qtctl import errors
from qtctl.commands.registry import COMMANDS
from qtctl.version import VERSION
from tests import streams
from tests.pages import PAGES, TOP, as_shown, examples

EXAMPLES = re.findall(
    r"^\| `(\w+)` \|.*\| `(\{.*\})` \|$", (TOP / "docs/stream.md").read_text(), re.M
)
MESSAGES = re.findall(
    r"^\*\*`(.*?)`\*\*", (TOP / "docs/troubleshooting.md").read_text(), re.M | re.S
)
OTHERS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "benchmarks/README.md"]


def test_the_readme_is_short() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_an_example_of_the_schema_is_valid(kind: str, text: str) -> None:
    assert json.loads(text)["type"] == kind
    streams.check(json.loads(text))


def test_every_type_of_the_schema_has_an_example() -> None:
    assert [kind for kind, _ in EXAMPLES] == streams.TYPES


def test_what_the_schema_does_not_describe_is_found() -> None:
    loss = {"type": "loss", "backend": "log", "count": None, "time_ns": 1}
    streams.check(loss)
    for wrong in ({"more": 1}, {"count": -1}, {"backend": None}, {"type": "other"}):
        with pytest.raises(AssertionError):
            streams.check({**loss, **wrong})
    streams.check_stream(json.dumps(loss).encode() + b'\n{"type": "cut')


def test_the_exit_codes_are_those_of_the_errors() -> None:
    page = (TOP / "docs/exit-codes.md").read_text()
    found = set(map(int, re.findall(r"^\| (\d+) \|", page, re.M)))
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    assert found == {0} | {one.exit_code for one in kinds if issubclass(one, errors.QtctlError)}


@cache
def templates() -> str:
    """Return the texts of the package, a line each; ``...`` stands for what differs."""
    found = []
    for path in sorted((TOP / "qtctl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [str(getattr(one, "value", "")) for one in node.values]
                fixed = [isinstance(one, ast.Constant) for one in node.values]
                found.append("".join(p if f else "..." for p, f in zip(parts, fixed, strict=True)))
    return "\n".join(text.replace("\n", " ") for text in found)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_is_one_of_qtctls(message: str) -> None:
    parts = [re.escape(part.strip()) for part in " ".join(message.split()).split("...")]
    assert re.search(".*".join(parts), templates()), message


def test_the_debian_package_has_the_version_of_the_code() -> None:
    assert (TOP / "debian/changelog").read_text().startswith(f"qtctl ({VERSION}) ")


def test_lines_that_differ_from_run_to_run_are_as_shown() -> None:
    assert as_shown("a 0x12 1.5 us\n...\nend\n", "a 0xff 3 ms\nmore\nend\n")
    assert as_shown("...\n", "")
    assert not as_shown("a 1\n", "b 1\n")
    assert not as_shown("a\n", "a\nb\n")
    first = next(examples("README.md"))
    assert first.command == "qtctl tail 'virtio_blk_*' --where 'nsectors == 1' --max-events 3"
    assert len(first.shown.splitlines()) == 3


def prose(page: Path) -> str:
    """Return the text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that a page has where the repository is read: one a heading."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", sorted({*OTHERS, *PAGES}))
def test_links_between_files_lead_somewhere(page: str) -> None:
    """They are read in the repository, too."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(TOP / page)):
        if not re.match(r"[a-z]+:", link):
            name, _, anchor = link.partition("#")
            target = (TOP / page).parent / name if name else TOP / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


class _Sources(HTMLParser):
    """Collects what a page loads when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "link" and known.get("rel") in ("canonical", "next", "prev"):
            return
        name = {"link": "href", "form": "action"}.get(tag, "src")
        if tag != "a" and (source := known.get(name)):
            self.found.append(source)


@pytest.mark.process
def test_the_site_has_no_broken_link_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(TOP), "NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(
        build, cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        sources = _Sources()
        sources.feed(page.read_text())
        foreign = [one for one in sources.found if re.match(r"(https?:)?//", one)]
        assert not foreign, (page, foreign)
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet
    verbs = (tmp_path / "verbs.html").read_text()
    assert all(f'id="{name}"' in verbs for name in COMMANDS.rows)
