"""What the user's configuration changes on the command line: aliases, and defaults of options."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from qtctl.commands.registry import Arg, Command, Options, arg
from qtctl.config import Settings, settings
from qtctl.errors import QtctlError, UsageError

REFUSED: Mapping[str, str] = {
    "target": "$QTCTL_TARGET has the target",
    "except": "a set of [sets] can leave out patterns",
}
"""Options that have no default in the file, and why."""
_PLACE = r"\$([1-9])"


def aliases() -> Mapping[str, str]:
    """Return the lines of the aliases by name; none if the file has an error."""
    try:
        return settings().tables["aliases"]
    except QtctlError:
        return {}


def expanded(words: Sequence[str]) -> list[str]:
    """Return the words of a call, the first of which may be an alias, with its line in its place.

    ``$1`` to ``$9`` in the line are the words behind the alias; further words follow the line.

    Raises:
        UsageError: the file has an error, or words that the alias needs are missing.
    """
    name, *rest = words
    configured = settings()
    if name not in configured.tables["aliases"]:
        return [name, *rest]
    import shlex  # late: most calls have no alias

    line: str = configured.tables["aliases"][name]
    try:
        body = shlex.split(line)
    except ValueError as error:
        raise configured.wrong(("aliases", name), f"{line!r}: {str(error).lower()}") from error
    if rest in (["-h"], ["--help"]):
        return [body[0], *rest]
    needed = max(map(int, re.findall(_PLACE, line)), default=0)
    if len(rest) < needed:
        raise UsageError(f"{name!r} needs {needed} word{'s' * (needed > 1)} behind it", hint=line)
    filled = [re.sub(_PLACE, lambda place: rest[int(place[1]) - 1], word) for word in body]
    return [*filled, *rest[needed:]]


def alias_words(line: str) -> list[str]:
    """Return the words of an alias's line for completion: without those that are to be typed."""
    import shlex

    try:
        return [word for word in shlex.split(line) if not re.search(_PLACE, word)]
    except ValueError:
        return line.split()


def defaults_of(row: Command, common: Sequence[Arg], only: str = "") -> dict[str, Any]:
    """Return the configured defaults of a verb's options by name, as argparse would convert them.

    ``only`` is the name of the one option that is wanted.

    Raises:
        UsageError: the file has an error, the verb has no such option, or its value is wrong.
    """
    configured = settings()
    known = {one.name: one for one in (*row.arguments, *common) if one.is_option}
    found = {}
    for name, (value, key) in configured.defaults(row.name).items():
        if only not in ("", name):
            continue
        if name in REFUSED:
            raise configured.wrong(key, f"--{name} has no default: {REFUSED[name]}")
        if name == "json" and len(key) == 2:
            raise configured.wrong(
                key, "streams have no --json: set it for a verb, [defaults.VERB]"
            )
        if name in known:
            found[name] = _converted(configured, key, known[name], value)
        elif len(key) > 2:  # not one of those for all verbs
            message = f"{row.name} has no option --{name}"
            raise configured.wrong(key, message, name=name, names=known)
    return found


def with_defaults(
    row: Command,
    common: Sequence[Arg],
    options: Options,
    given: Collection[str],
    *,
    only: str = "",
) -> Command:
    """Return the verb with the configured defaults, or with the ``only`` one that is wanted.

    Those of ``common`` options, which may stand before the verb, are set in ``options``, unless
    they were ``given`` there. A switch that is on gets a ``--no-SWITCH``.

    Raises: what :func:`defaults_of` does.
    """
    values = defaults_of(row, common, only)
    if not values:
        return row
    options_of_verb = [one for one in row.arguments if one.is_option]
    chosen = {one.dest: values[one.name] for one in options_of_verb if values.get(one.name)}
    arguments = [_with_default(one, values, chosen) for one in row.arguments]
    flags = [one for one in (*options_of_verb, *common) if not one.takes_value]
    arguments += [_undoing(one) for one in flags if values.get(one.name)]
    for one in common:
        if one.name in values and one.dest not in given and getattr(options, one.dest) is not True:
            setattr(options, one.dest, values[one.name])
    return row._replace(arguments=tuple(arguments))


def _with_default(one: Arg, values: Mapping[str, Any], chosen: Mapping[str, Any]) -> Arg:
    """Return an argument with its default: argparse takes that of the first for a ``dest``."""
    if not one.is_option or (one.name not in values and one.dest not in chosen):
        return one
    changed = {"required": False} if "required" in one.options else {}
    return one.but(default=chosen.get(one.dest, values.get(one.name)), **changed)


def _undoing(switch: Arg) -> Arg:
    return arg(
        f"--no-{switch.name}",
        dest=switch.dest,
        action="store_false",
        default=argparse.SUPPRESS,
        help=f"undo --{switch.name}, which the configuration file sets",
    )


def _converted(configured: Settings, key: Sequence[str], option: Arg, value: Any) -> Any:
    """Return the value of an option as a call with it would have it."""
    if not option.takes_value:
        if not isinstance(value, bool):
            raise configured.wrong(key, f"--{option.name} is a switch: true or false")
        constant = option.options.get("const", True)
        return constant if value else option.options.get("default", False)
    if option.options.get("action") == "append":
        parts = value if isinstance(value, list) else [value]
        return [_scalar(configured, key, option, one) for one in parts]
    return _scalar(configured, key, option, value)


def _scalar(configured: Settings, key: Sequence[str], option: Arg, value: Any) -> Any:
    if isinstance(value, bool | list):
        shown = option.options.get("metavar") or "VALUE"
        raise configured.wrong(key, f"--{option.name} takes a value: {shown}")
    convert = option.options.get("type", str)
    text = str(value)
    try:
        made = convert(os.path.expanduser(text) if convert is Path else text)  # noqa: PTH111
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise configured.wrong(key, f"--{option.name}: {error}") from error
    choices = option.options.get("choices")
    if choices and made not in choices:
        message = f"--{option.name}: {text!r} is none of {', '.join(choices)}"
        raise configured.wrong(key, message, name=text, names=choices)
    return made
