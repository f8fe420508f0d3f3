"""The verb config: check the configuration file, and print what holds and where it comes from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from qtctl.commands.context import Context, Result
from qtctl.commands.defaults import REFUSED, defaults_of, expanded
from qtctl.commands.parsing import COMMON
from qtctl.commands.registry import COMMANDS, Command, Options, arg, command
from qtctl.config import Settings, path_of_file, settings
from qtctl.errors import QtctlError, UsageError
from qtctl.events.selection import Selection, flat
from qtctl.session.attach import parse_named
from qtctl.text.tables import table
from qtctl.text.theme import ROLES, background_of, configured_theme
from qtctl.ui.actions import ACTIONS, configured_actions

_ENVIRONMENT = ("QTCTL_CONFIG", "QTCTL_TARGET", "QMP_SOCKET", "NO_COLOR", "PAGER")


class _Setting(NamedTuple):
    setting: str
    value: Any
    source: str

    def cells(self) -> tuple[str, str, str]:
        return self.setting, _text(self.value), self.source


@command(
    "config",
    arguments=(
        arg(
            "setting",
            nargs="?",
            metavar="SETTING",
            help="print what can be set below this (defaults.VERB, colors, keys), as it holds",
        ),
    ),
    examples=("qtctl config", "qtctl config defaults.tail", "qtctl config --json"),
    details="""\
The file is $XDG_CONFIG_HOME/qtctl/config.toml (~/.config/qtctl/config.toml), or what $QTCTL_CONFIG
names; with QTCTL_CONFIG= none is read. An example:

  [defaults]                # of every verb that has the option
  time = "delta"
  [defaults.tail]           # of one verb; an option that is given wins
  guard = "20MB"
  [aliases]                 # `qtctl slow vm1.qtr`: $1 to $9 are words, others follow
  slow = "latency virtio_blk_handle_read virtio_blk_req_complete --from $1"
  [targets]                 # -t lab
  lab = "192.0.2.7:4444"
  [sets]                    # @disk
  disk = ["virtio_blk_*", "bdrv_*", "-bdrv_lock_medium"]
  [colors]                  # see `qtctl config colors`
  background = "light"
  event = "bold #0044aa"
  [keys]                    # of views: see `qtctl config keys`
  pause = ["space", "f2"]

It must belong to you or to root, and nobody else may write it: an alias can run commands. Exit 2 if
anything in it is wrong.""",
)
async def config(context: Context, options: Options) -> Result:
    """Print settings; report what is wrong, with exit code 2."""
    found = settings()
    problems = list(_problems(found))
    if context.json:
        context.say(*(problem.message for problem in problems))
    else:
        for problem in problems:
            context.fail(problem)
    rows = list(_set(found) if options.setting is None else _below(found, options.setting))
    document = {
        "path": None if (path := path_of_file()) is None else str(path),
        "read": found.path is not None,
        "problems": [problem.message for problem in problems],
        "settings": [
            {"setting": row.setting, "value": row.value, "from": row.source} for row in rows
        ],
    }
    if found.path is None:
        context.say("no configuration file" + (f": {path} does not exist" if path else " is read"))
    else:
        context.say(f"configuration: {found.path}")
    header = ("SETTING", "VALUE", "FROM")
    lines = [row.cells() for row in rows]
    return Result(document, lambda style: table(style, header, lines), 2 if problems else 0)


def _set(found: Settings) -> Iterator[_Setting]:
    """Yield what the environment and the file set."""
    for name in _ENVIRONMENT:
        if name in os.environ:
            yield _Setting(f"${name}", os.environ[name], "environment")
    for key, line in found.lines():
        value = found.value(key)
        if not isinstance(value, dict):
            yield _Setting(_dotted(key), value, _place(found, line))


def _below(found: Settings, setting: str) -> Iterator[_Setting]:
    """Yield all settings below one, as they hold."""
    section, _, name = setting.partition(".")
    verb, _, option = name.partition(".")
    if section == "defaults" and verb in COMMANDS.rows:
        rows = list(_options(found, COMMANDS.rows[verb]))
        rows = [row for row in rows if option in ("", row.setting.rpartition(".")[2])]
    else:
        rows = list(_set(found))
        given = {row.setting for row in rows}
        shipped = [*_colours(), *_keys()]
        rows += [row for row in shipped if row.setting not in given]
        rows = [row for row in rows if f"{row.setting}.".startswith(f"{setting}.")]
    if not rows and setting not in found.tables:
        raise UsageError(f"there is no setting {setting!r}", hint=", ".join(found.tables))
    yield from rows


def _options(found: Settings, row: Command) -> Iterator[_Setting]:
    """Yield the options of a verb with their defaults."""
    configured = found.defaults(row.name)
    lines = dict(found.lines())
    for one in (*row.arguments, *COMMON):
        if not one.is_option or one.name in REFUSED:
            continue
        value, source = one.options.get("default", None if one.takes_value else False), "qtctl"
        if one.name in configured:
            value, key = configured[one.name]
            source = _place(found, lines[key])
        yield _Setting(f"defaults.{row.name}.{one.name}", value, source)


def _colours() -> Iterator[_Setting]:
    """Yield the colours that hold where none are set."""
    yield _Setting("colors.background", background_of(os.environ), "qtctl")
    for role, look in ROLES.items():
        yield _Setting(f"colors.{role}", look, "qtctl")


def _keys() -> Iterator[_Setting]:
    """Yield the keys of views that hold where none are set."""
    for action in ACTIONS:
        yield _Setting(f"keys.{action.name}", list(action.keys), "qtctl")


def _problems(found: Settings) -> Iterator[QtctlError]:
    """Yield what is wrong in the file and was not refused when it was read."""
    options = {one.name for row in COMMANDS.rows.values() for one in row.arguments if one.is_option}
    options |= {one.name for one in COMMON}
    for key in [key for key, _ in found.lines()]:
        try:
            _check(found, key, options)
        except QtctlError as error:
            at_a_line = error.message.startswith(f"{found.path}:")
            yield error if at_a_line else found.wrong(key, error.message)


def _check(found: Settings, key: tuple[str, ...], options: Collection[str]) -> None:
    """Check one setting as the calls do that use it; raise what they would."""
    match key:
        case "defaults", verb, name:
            defaults_of(COMMANDS.rows[verb], COMMON, only=name)
        case "defaults", name if isinstance(found.value(key), dict):
            return
        case "defaults", name:
            if name not in options:
                raise found.wrong(key, f"no verb has an option --{name}", name=name, names=options)
            for row in COMMANDS.rows.values():
                defaults_of(row, COMMON, only=name)
        case "aliases", name:
            expanded([name, *"123456789"])
        case "targets", name:
            parse_named(name)
        case "sets", name:
            list(flat(Selection.of(f"@{name}")))
        case ("colors",):
            configured_theme(found, os.environ)
        case ("keys",):
            configured_actions(found)


def _dotted(key: Sequence[str]) -> str:
    """Return a key of the file as TOML spells it."""
    bare = re.compile(r"[\w-]+", re.ASCII)
    return ".".join(part if bare.fullmatch(part) else json.dumps(part) for part in key)


def _place(found: Settings, line: int) -> str:
    return f"{found.path.name if found.path else ''}:{line}"


def _text(value: Any) -> str:
    match value:
        case None | []:
            return "-"
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(map(_text, value))
    return str(value)
