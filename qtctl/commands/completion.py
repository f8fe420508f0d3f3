"""The verb completion: scripts for bash, zsh and fish, and the candidates they ask for."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shlex
from collections.abc import Iterator

from qtctl.backends.table import TABLE
from qtctl.commands.argument_names import argument_names, selected
from qtctl.commands.context import Context, Result
from qtctl.commands.defaults import aliases
from qtctl.commands.parsing import SHARED
from qtctl.commands.registry import COMMANDS, Options, arg, command
from qtctl.commands.shell_files import SHELLS, Shell, install, script, shell_of
from qtctl.commands.slots import Slot, read_line, slot
from qtctl.errors import QtctlError, UsageError
from qtctl.text.style import escaped

_MOST = 100
"""At most so many names of arguments are offered; typing on finds more."""
_INSTALL = arg("--install", action="store_true", help="install it for this user")
_FILES = ":"
"""The answer that makes the shell complete files."""


@command(
    "completion",
    arguments=(
        arg("shell", nargs="?", choices=SHELLS, help="the shell to complete in (default: $SHELL)"),
        _INSTALL,
        arg(
            "words",
            nargs=argparse.REMAINDER,
            metavar="WORD",
            help="print candidates for the last of these words (used by the scripts)",
        ),
    ),
    examples=(
        "qtctl completion --install",
        "qtctl completion zsh --install",
        "qtctl completion bash > /etc/bash_completion.d/qtctl",
    ),
    details="""\
Verbs, options, events, their arguments, @SETS, guests and files are completed. --install writes the
script to where the shell loads it from; for zsh, and for bash without the package bash-completion,
it adds a line to ~/.zshrc or ~/.bashrc. Without --install the script is printed.
Events are those of the guest that was listed or followed last, else those of the QEMU that is
installed here: no guest is asked.""",
)
async def completion(context: Context, options: Options) -> Result:
    """Print or install a script, or print candidates for the last word."""
    # A flag behind the shell is among the words, as argparse.REMAINDER takes everything.
    if options.install or options.words == [*_INSTALL.flags]:
        return _installed(context, options.shell or shell_of(os.environ))
    if options.words and options.words[0].startswith("-"):
        raise UsageError(
            f"unrecognized arguments: {' '.join(options.words)}",
            hint=f"options stand before the shell: qtctl completion {options.words[0]} ...",
        )
    if not options.words:
        text = script(options.shell or shell_of(os.environ))
        return Result({"script": text}, lambda style: text.splitlines())
    words, cut = options.words[1:], 0
    quoted: int | None = None
    if options.shell == "bash":
        line, breaks = (*options.words, "")[:2]
        (_, *words), quoted = read_line(line)
        cut = max((words[-1].rfind(char) + 1 for char in breaks if char in ":="), default=0)
    elif words:  # as it is typed, with a quotation that may be open
        words[-1] = read_line(words[-1])[0][-1]
    place = slot(words, COMMANDS, SHARED, aliases())
    is_path = place.kind == "target" and place.text.startswith(("/", ".", "~"))
    if (place.kind == "file" or is_path) and not place.lead:
        return Result([], lambda style: [_FILES])
    found = [
        (f"{place.lead}{text}", about)
        for text, about in _answers(place)
        if text.startswith(place.text)
    ]
    lines = [
        _for_bash(text, cut, quoted)
        if options.shell == "bash"
        else f"{escaped(text)}\t{escaped(about)}"
        for text, about in found
    ]
    return Result([text for text, _ in found], lambda style: lines)


def _installed(context: Context, shell: Shell) -> Result:
    paths = list(map(str, install(shell, os.environ)))
    context.say(f"a new {shell} completes qtctl; written:")
    return Result({"shell": shell, "written": paths}, lambda style: paths)


def _for_bash(text: str, cut: int, quoted: int | None) -> str:
    """Return the replacement from ``cut``, or in an open quotation from its mark."""
    if quoted is not None:
        return escaped(text)[quoted:]
    return shlex.quote(escaped(text)) if not cut else escaped(text)[cut:]


def _answers(place: Slot) -> Iterator[tuple[str, str]]:
    match place.kind:
        case "verb":
            yield from COMMANDS.summaries.items()
            yield from aliases().items()
        case "option":
            for one in (*place.options, arg("-h", "--help", help="show help")):
                flags = [flag for flag in one.flags if flag.startswith("--")] or list(one.flags)
                yield from ((flag, str(one.options.get("help", ""))) for flag in flags)
        case "choice":
            yield from ((choice, "") for choice in place.choices)
        case "backend":
            yield "auto", "of what can be followed, the cheapest for the guest"
            yield from ((str(name), row.summary) for name, row in TABLE.items())
        case "argument" | "filter":
            yield from _arguments(place)
        case "target":
            yield from targets()
        case "event":
            yield from _events(place.text)


def targets() -> Iterator[tuple[str, str]]:
    """Yield what can stand for a guest, and a description: configured names, running guests."""
    from qtctl.config import settings
    from qtctl.monitor.guests import running_guests
    from qtctl.monitor.networks import is_elsewhere

    yield from settings().tables["targets"].items()
    for guest in running_guests():
        about = f"QEMU {guest.version or '?'}"
        if guest.name:
            yield guest.name, f"{about}, pid {guest.pid}"
        yield str(guest.pid), f"{about}, {guest.name or 'unnamed'}"
        near = (address for address in guest.addresses if not is_elsewhere(address, guest))
        yield from ((str(address), f"{about}, pid {guest.pid}") for address in near)


def _arguments(place: Slot) -> Iterator[tuple[str, str]]:
    """Yield the word completed by a name; of all known events if the line names none."""
    from qtctl.session.event_cache import known_declarations

    declared = known_declarations(lambda names: selected(place.before, names) or names)
    found = argument_names(place, list(declared), declared)
    for text, about, begun in itertools.islice(found, _MOST):
        yield place.text[: len(place.text) - begun] + text, about


def _events(text: str) -> Iterator[tuple[str, str]]:
    from qtctl.events import sets
    from qtctl.session.event_cache import known_events

    for name in sets.names():
        with contextlib.suppress(QtctlError):
            yield f"@{name}", sets.read_set(name).about
    if not text.startswith("@"):
        yield from known_events(text).items()
