"""Declarations of verbs and their arguments, and the tables of verbs.

The command line, its help and completion are made from these rows alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from qtctl.verbs import HIDDEN_VERBS, TASKS, VERBS, Verb

if TYPE_CHECKING:
    from pathlib import Path

    from qtctl.commands.context import Context, Result
    from qtctl.model import Budget


Run = Callable[["Context", "Options"], Awaitable["Result | int"]]


class Arg(NamedTuple):
    """One argument of a verb, in the terms of ``argparse.ArgumentParser.add_argument``.

    ``completes`` names the kind of its value for completion: see ``commands/slots.py``.
    """

    flags: tuple[str, ...]
    options: Mapping[str, Any]
    completes: str = ""
    hidden: tuple[str, ...] = ()
    """Older spellings: they still work, and help does not show them."""

    @property
    def is_option(self) -> bool:
        """Whether it is an option: not a positional argument."""
        return self.flags[0].startswith("-")

    @property
    def name(self) -> str:
        """The long option without its dashes."""
        return self.flags[-1].lstrip("-")

    @property
    def dest(self) -> str:
        """The attribute of :class:`Options` with its value."""
        return self.options.get("dest") or self.name.replace("-", "_")

    @property
    def takes_value(self) -> bool:
        """Whether a value follows: the option is neither a switch nor a constant."""
        return self.options.get("action") in (None, "append")

    def but(self, **options: Any) -> Arg:
        """Return the argument with some of its options changed, such as its help."""
        return self._replace(options={**self.options, **options})


class Options(argparse.Namespace):
    """The parsed arguments of a call; shared ones are typed here.

    Only those that the verb declares are set. ``given`` names those that the call itself has, by
    their attributes: the others have their defaults, or those of the configuration.
    """

    given: Collection[str] = ()
    line: Sequence[str] = ()
    """The words of the call, with the user's aliases replaced; for the qtctl of another host."""
    verb: str
    targets: list[str]
    events_all: Path | None
    json: bool
    color: str
    quiet: bool
    verbose: bool

    patterns: list[str]
    file: Path | None
    event: str
    where: str | None
    kernel: list[str]
    all: bool
    backend: str
    path: Path
    traces: list[Path]
    duration: float | None
    max_events: int | None
    guard: Budget | None
    strict: bool
    by: str
    limit: int | None
    time: str
    ndjson: bool
    out: Path | None
    record: Path | None
    behind: list[str]


def arg(*flags: str, completes: str = "", **options: Any) -> Arg:
    """Return the declaration of an argument."""
    return Arg(flags, options, completes)


class Command(NamedTuple):
    """One verb. ``selects``: its patterns are ordered, with ``--except`` between them.

    ``until`` is a word that ends its arguments; the words after it go into ``behind`` unparsed, and
    the usage calls them ``rest``.
    ``guests``: it may be called for several guests, and is run on ``each`` of them, or on them
    ``together``.
    """

    name: str
    summary: str
    run: Run
    arguments: tuple[Arg, ...] = ()
    examples: tuple[str, ...] = ()
    details: str = ""
    selects: bool = False
    until: str = ""
    rest: str = ""
    guests: Literal["", "each", "together"] = ""

    @property
    def usage_end(self) -> str:
        """The end of its usage: what stands behind its arguments."""
        return f"{self.until} {self.rest}".strip()


_DECLARED: dict[tuple[str, str], Command] = {}
"""The verbs that were imported, by module and name."""


def command(
    name: str,
    *,
    arguments: tuple[Arg, ...] = (),
    examples: tuple[str, ...] = (),
    details: str = "",
    selects: bool = False,
    until: str = "",
    rest: str = "",
    guests: Literal["", "each", "together"] = "",
) -> Callable[[Run], Run]:
    """Declare a verb, which ``qtctl/verbs.py`` lists; the decorated coroutine runs it."""

    def declare(run: Run) -> Run:
        _DECLARED[run.__module__, name] = Command(
            name, "", run, arguments, examples, details, selects, until, rest, guests
        )
        return run

    return declare


class _LazyCommands(Mapping[str, Command]):
    """Verbs by name, in the order of their list; looking one up imports its module.

    The hidden ones can be looked up, and are not listed.
    """

    def __init__(self, listed: Mapping[str, Verb], hidden: Mapping[str, Verb]) -> None:
        self._listed = listed
        self._hidden = hidden

    def __getitem__(self, name: str) -> Command:
        listed = self._listed.get(name) or self._hidden[name]
        if (listed.module, name) not in _DECLARED:
            import importlib

            importlib.import_module(listed.module)
        return _DECLARED[listed.module, name]._replace(summary=listed.summary)

    def __contains__(self, name: object) -> bool:
        return name in self._listed

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


class CommandTable:
    """The verbs of the command line, or of a console.

    ``summaries`` and ``console_roles`` (see :class:`Verb`) import none of them; ``rows`` imports
    those that are looked up.
    """

    def __init__(self, verbs: Iterable[Verb], hidden: Iterable[Verb] = ()) -> None:
        listed = {verb.name: verb for verb in verbs}
        self.verbs = tuple(listed.values())
        self.summaries = {name: verb.summary for name, verb in listed.items()}
        self.console_roles = {name: verb.console for name, verb in listed.items()}
        self.rows: Mapping[str, Command] = _LazyCommands(
            listed, {verb.name: verb for verb in hidden}
        )

    def by_task(self) -> Iterator[tuple[str, list[Verb]]]:
        """Yield the headings of help, each with its verbs."""
        for task, heading in TASKS.items():
            if verbs := [verb for verb in self.verbs if verb.task == task]:
                yield heading, verbs


COMMANDS = CommandTable(VERBS, HIDDEN_VERBS)
