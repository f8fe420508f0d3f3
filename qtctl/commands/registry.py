"""The rows of the command table: what a verb is called, takes, shows and does.

The command line, its help and completion are made from these rows alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtctl.commands.context import Context
    from qtctl.text.style import Style


@dataclass(frozen=True, slots=True)
class Result:
    """What a one-shot verb found: a JSON document, the same as lines for people, an exit code."""

    document: Any
    lines: Callable[[Style], Iterable[str]]
    exit_code: int = 0


Run = Callable[["Context", argparse.Namespace], Awaitable[Result | int]]


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument of a verb, as ``argparse.ArgumentParser.add_argument`` takes it.

    ``completes`` names what may stand there, for completion: see ``commands/completing.py``.
    """

    flags: tuple[str, ...]
    options: Mapping[str, Any]
    completes: str = ""


def arg(*flags: str, completes: str = "", **options: Any) -> Arg:
    """Describe one argument of a verb."""
    return Arg(flags, options, completes)


@dataclass(frozen=True, slots=True)
class Command:
    """One verb. ``selects`` says that its patterns are ordered, with ``--except`` between them.

    ``until`` is a word that ends its own arguments: what stands behind goes into ``behind`` as it
    is.
    """

    name: str
    summary: str
    run: Run
    arguments: tuple[Arg, ...] = ()
    examples: tuple[str, ...] = ()
    details: str = ""
    selects: bool = False
    until: str = ""


@dataclass(slots=True)
class CommandTable:
    """Verbs by name, in the order they were declared."""

    rows: dict[str, Command] = field(default_factory=dict)

    def command(
        self,
        name: str,
        summary: str,
        *,
        arguments: tuple[Arg, ...] = (),
        examples: tuple[str, ...] = (),
        details: str = "",
        selects: bool = False,
        until: str = "",
    ) -> Callable[[Run], Run]:
        """Declare a verb; the decorated coroutine runs it."""

        def declare(run: Run) -> Run:
            if name in self.rows:
                raise ValueError(f"two verbs are called {name}")
            row = Command(name, summary, run, arguments, examples, details, selects, until)
            self.rows[name] = row
            return run

        return declare


COMMANDS = CommandTable()
command = COMMANDS.command
