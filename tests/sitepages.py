"""Adds the pages that are made from the code and from the top of the repository to the site.

MkDocs calls it (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from qtctl.commands.parsing import COMMON
from qtctl.commands.registry import COMMANDS, Arg, Command
from qtctl.version import VERSION

TOP = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    made = {
        "verbs.md": "\n".join(verbs()),
        "changelog.md": (TOP / "CHANGELOG.md").read_text().replace("](docs/", "]("),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def verbs() -> Iterator[str]:
    """Yield the lines of the page of verbs."""
    yield f"# Verbs\n\nAs `qtctl VERB --help` of version {VERSION} has them.\n"
    for row in COMMANDS.rows.values():
        yield f"- [`{row.name}`](#{row.name}): {_text(row.summary)}"
    for row in COMMANDS.rows.values():
        yield from _verb(row)
    yield "\n## Options of all verbs { #common }\n"
    yield from _arguments(COMMON)


def _verb(row: Command) -> Iterator[str]:
    summary = row.summary[:1].upper() + row.summary[1:]
    yield f"\n## {row.name} {{ #{row.name} }}\n\n{_text(summary)}.\n"
    yield "\n".join(["```sh", *row.examples, "```", ""])
    for paragraph in filter(None, re.split(r"\n\s*\n", row.details.strip("\n"))):
        yield f"{_paragraph(paragraph)}\n"
    yield from _arguments(row.arguments)
    yield "\nAnd the [options of all verbs](#common)."


def _paragraph(text: str) -> str:
    """Return a paragraph of help: aligned lines stay as they are."""
    aligned = any(line.startswith("  ") for line in text.splitlines())
    return f"```text\n{text}\n```" if aligned else _text(text)


def _arguments(arguments: tuple[Arg, ...]) -> Iterator[str]:
    if not arguments:
        return
    yield "| option | what it does |\n|---|---|"
    for one in arguments:
        names = ", ".join(one.flags) if one.is_option else ""
        named = one.options.get("metavar") or one.flags[-1].lstrip("-").upper()
        choices = one.options.get("choices")
        if choices and "metavar" not in one.options:
            named = "|".join(map(str, choices))
        code = f"{names} {named if one.takes_value else ''}".strip().replace("|", "\\|")
        use = str(one.options.get("help", "")).replace("%%", "%")
        yield f"| `{code}` | {_text(use).replace('|', chr(92) + '|')} |"


def _text(text: str) -> str:
    """Escape what Markdown would take for markup."""
    return re.sub(r"([*_<>\[\]`$])", r"\\\1", text)
