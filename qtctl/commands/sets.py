"""The verb sets: list, print and save named lists of patterns."""

from __future__ import annotations

from typing import Any

from qtctl.commands.context import Context, Result
from qtctl.commands.options import SELECTION
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.errors import UsageError
from qtctl.events import sets as event_sets
from qtctl.events.selection import Selection, flat
from qtctl.text.style import counted, escaped
from qtctl.text.tables import table


@command(
    "sets",
    arguments=(
        *SELECTION,
        arg("--save", metavar="NAME", help="write your own set of that name from the patterns"),
        arg("--force", action="store_true", help="with --save: replace the set you had"),
    ),
    examples=(
        "qtctl sets",
        "qtctl sets virtio-blk > blk.events && qemu-system-x86_64 -trace events=blk.events",
        "qtctl tail @virtio-blk @run-state --except @virtio",
        "qtctl sets --save my-disk @virtio-blk 'bdrv_*' --except bdrv_lock_medium",
    ),
    details=(
        "@NAME may stand wherever a PATTERN may, in events files and in other sets as well.\n"
        "Your own are events files, NAME.events in $XDG_CONFIG_HOME/qtctl/sets; they win over\n"
        "those that come with qtctl."
    ),
    selects=True,
)
async def sets(context: Context, options: Options) -> Result:
    """List the sets, print some, or save one."""
    if options.save is not None:
        return _save(options)
    if options.force:
        raise UsageError("--force replaces a set that is saved", hint="--save NAME PATTERN...")
    if options.file:
        raise UsageError("--file names what is saved", hint="qtctl sets --save NAME --file EVENTS")
    if options.patterns:
        return _print(selection(options))
    return _list(context)


def _list(context: Context) -> Result:
    """List all sets; report files that cannot be read, with exit code 1."""
    found, broken = [], 0
    for name in event_sets.names():
        try:
            found.append(event_sets.read_set(name))
        except UsageError as error:
            context.complain(str(error))
            broken = 1
    rows = [
        (f"@{one.name}", str(len(one.rules)), "own" if one.own else "shipped", one.about)
        for one in found
    ]
    header = ("SET", "PATTERNS", "FROM", "WHAT IT SHOWS")
    document = {"sets": list(map(_document, found))}
    return Result(document, lambda style: table(style, header, rows), broken)


def _document(found: event_sets.EventSet) -> dict[str, Any]:
    return {
        "name": found.name,
        "patterns": Selection(found.rules).words(),
        "own": found.own,
        "path": str(found.path),
        "about": found.about,
    }


def _save(options: Options) -> Result:
    chosen = selection(options)
    if not chosen:
        raise UsageError("a set needs a PATTERN or --file", hint="qtctl sets --save NAME PATTERN")
    name = options.save.removeprefix("@")
    path = event_sets.save(name, chosen.rules, replace=options.force)
    text = f"@{name}: {counted(len(chosen.rules), 'pattern')} in {path}"
    document = {"name": name, "path": str(path), "patterns": chosen.words()}
    return Result(document, lambda style: [escaped(text)])


def _print(chosen: Selection) -> Result:
    """Print sets as one events file for QEMU; the words are their names, with or without @."""
    named = Selection(tuple((inc, f"@{word.removeprefix('@')}") for inc, word in chosen.rules))
    words = Selection(tuple(flat(named))).words()
    lines = [f"# {' '.join(named.words())}, by qtctl sets", *words]
    return Result({"patterns": words}, lambda style: map(escaped, lines))
