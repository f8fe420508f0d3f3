"""What a verb is called, takes, shows and does; and the tables of verbs.

The command line, its help and completion are made from these rows alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qtctl.verbs import VERBS, Verb

if TYPE_CHECKING:
    from qtctl.commands.context import Context
    from qtctl.text.style import Style


class Result(NamedTuple):
    """What a one-shot verb found: a JSON document, the same as lines for people, an exit code."""

    document: Any
    lines: Callable[[Style], Iterable[str]]
    exit_code: int = 0


Run = Callable[["Context", argparse.Namespace], Awaitable[Result | int]]


class Arg(NamedTuple):
    """One argument of a verb, as ``argparse.ArgumentParser.add_argument`` takes it.

    ``completes`` names what may stand there, for completion: see ``commands/completing.py``.
    """

    flags: tuple[str, ...]
    options: Mapping[str, Any]
    completes: str = ""

    @property
    def takes_value(self) -> bool:
        """Whether a value follows: the option is neither a switch nor a constant."""
        return self.options.get("action") in (None, "append")


def arg(*flags: str, completes: str = "", **options: Any) -> Arg:
    """Describe one argument of a verb."""
    return Arg(flags, options, completes)


class Command(NamedTuple):
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


_DECLARED: dict[str, Command] = {}


def command(
    name: str,
    *,
    arguments: tuple[Arg, ...] = (),
    examples: tuple[str, ...] = (),
    details: str = "",
    selects: bool = False,
    until: str = "",
) -> Callable[[Run], Run]:
    """Declare a verb, which ``qtctl/verbs.py`` lists; the decorated coroutine runs it."""

    def declare(run: Run) -> Run:
        if name in _DECLARED:
            raise ValueError(f"two verbs are called {name}")
        _DECLARED[name] = Command(name, "", run, arguments, examples, details, selects, until)
        return run

    return declare


class _Rows(Mapping[str, Command]):
    """Verbs by name, in the order of their list; a verb's module is imported on look-up."""

    def __init__(self, listed: Mapping[str, Verb]) -> None:
        self._listed = listed

    def __getitem__(self, name: str) -> Command:
        listed = self._listed[name]
        if name not in _DECLARED:
            import importlib

            importlib.import_module(listed.module)
        return _DECLARED[name]._replace(summary=listed.summary)

    def __contains__(self, name: object) -> bool:
        return name in self._listed

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


class CommandTable:
    """The verbs of one place to type them.

    ``summaries`` imports none of them; ``rows`` imports those that are looked up.
    """

    def __init__(self, verbs: Iterable[Verb]) -> None:
        listed = {verb.name: verb for verb in verbs}
        self.summaries = {name: verb.summary for name, verb in listed.items()}
        self.rows: Mapping[str, Command] = _Rows(listed)


COMMANDS = CommandTable(VERBS)
