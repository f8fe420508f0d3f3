"""The user's configuration: one TOML file, ``$XDG_CONFIG_HOME/qtctl/config.toml``.

The command line reads it, the Python API does not. Each call checks the form of the whole file, and
the values that it uses; ``qtctl config`` checks all of them. Sources: the XDG base directory
specification, TOML 1.0 (``tomllib`` of Python 3.11).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qtctl.errors import UsageError
from qtctl.folders import config_folder, read_text
from qtctl.verbs import CONSOLE_VERBS, OTHER_NAMES, VERBS

VARIABLE = "QTCTL_CONFIG"
"""Names another file; empty: no file is read."""
_WITHOUT = f"{VARIABLE}= qtctl ..., to do without it"
_VERBS = [verb.name for verb in VERBS]
_LINE_VERBS = [*_VERBS, *(verb.name for verb in CONSOLE_VERBS)]
_SCALARS = (bool, int, float, str)
_TARGET_NAMES = "a letter or _ can, with letters, digits, -, _ and . behind it"
_FORMS: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "defaults": ("a value, or a table of them for a verb", (*_SCALARS, list)),
    "aliases": ("a line of qtctl", (str,)),
    "targets": ("a TARGET", (str,)),
    "sets": ("a list of patterns", (list,)),
    "colors": ("a colour, such as 'bold cyan'", (str,)),
    "keys": ("a key, or a list of keys", (str, list)),
}
"""The tables of the file: what one of their values is, in words and as types."""


class Settings:
    """What a configuration file says; ``tables`` has its tables by name. Empty without a file."""

    def __init__(self, path: Path | None = None, text: str = "") -> None:
        self.path = path
        self._text = text
        self.tables: dict[str, dict[str, Any]] = {name: {} for name in _FORMS}
        if path is not None:
            found = _parsed(path, text)
            self._check(found)
            self.tables.update(found)

    def defaults(self, verb: str) -> dict[str, tuple[Any, tuple[str, ...]]]:
        """Return the defaults of a verb's options: for each its value and its key in the file.

        Those that stand for all verbs are among them, also of options that the verb lacks.
        """
        table = self.tables["defaults"]
        found: dict[str, tuple[Any, tuple[str, ...]]] = {
            name: (value, ("defaults", name))
            for name, value in table.items()
            if not isinstance(value, dict)
        }
        for name, value in table.get(verb, {}).items():
            found[name] = value, ("defaults", verb, name)
        return found

    def value(self, key: Sequence[str]) -> Any:
        """Return the value of a key that :meth:`lines` yields; of a table, a dictionary."""
        found: Any = self.tables
        for name in key:
            found = found[name]
        return found

    def wrong(
        self, key: Sequence[str], message: str, *, name: str = "", names: Iterable[str] = ()
    ) -> UsageError:
        """Return the error for a key of the file; if its ``name`` is wrong, near ``names`` help."""
        import difflib

        near = difflib.get_close_matches(name, [*names], n=1) if name else []
        return UsageError(
            f"{self.path}:{self.line_of(key)}: {message}", hint=near[0] if near else _WITHOUT
        )

    def line_of(self, key: Sequence[str]) -> int:
        """Return the line at which a key of the file stands."""
        return dict(self.lines())[tuple(key)]

    def lines(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield the keys of the file, those of tables among them, with their lines, in order.

        ``tomllib`` gives no lines, so each statement is parsed below the header of its table.
        """
        import tomllib

        seen: set[tuple[str, ...]] = set()
        lines = self._text.replace("\r\n", "\n").split("\n")
        begin, header = 1, ""
        for number in range(1, len(lines) + 1):
            statement = "\n".join(lines[begin - 1 : number])
            try:
                found = tomllib.loads(f"{header}\n{statement}")
            except tomllib.TOMLDecodeError:
                continue  # in the middle of a value of several lines
            if statement.lstrip().startswith("["):
                header = statement
            for key in _keys(found):
                if key not in seen:
                    seen.add(key)
                    yield key, begin
            begin = number + 1

    def _check(self, found: Mapping[str, Any]) -> None:
        """Check that all tables and keys have the right form."""
        for name, table in found.items():
            if name not in _FORMS:
                raise self.wrong((name,), f"there is no setting {name!r}", name=name, names=_FORMS)
            if not isinstance(table, dict):
                raise self.wrong((name,), f"{name!r} is a table: write [{name}]")
            for key, value in table.items():
                self._check_value((name, key), value)

    def _check_value(self, key: tuple[str, ...], value: Any) -> None:
        section, name = key[0], key[-1]
        if section == "defaults" and len(key) == 2 and isinstance(value, dict):
            if name not in _VERBS:
                raise self.wrong(key, f"there is no verb {name!r}", name=name, names=_VERBS)
            for option, inner in value.items():
                self._check_value((*key, option), inner)
            return
        wanted, forms = _FORMS[section]
        parts = value if isinstance(value, list) else [value]
        types = _SCALARS if section == "defaults" else (str,)
        if not isinstance(value, forms) or not all(isinstance(one, types) for one in parts):
            raise self.wrong(key, f"{name!r} is to be {wanted}")
        if any(isinstance(one, str) and "\0" in one for one in parts):
            raise self.wrong(key, f"{name!r} has a NUL in its text")
        if section == "aliases":
            self._check_alias(key, name, value)
        if section == "targets" and not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
            raise self.wrong(key, f"{name!r} cannot name a target: {_TARGET_NAMES}")

    def _check_alias(self, key: tuple[str, ...], name: str, line: Any) -> None:
        if name in _LINE_VERBS:
            raise self.wrong(key, f"{name!r} is a verb: its options have [defaults.{name}]")
        if name in OTHER_NAMES:
            raise self.wrong(key, f"{name!r} means something else at the prompt")
        if not re.fullmatch(r"[^\s\-'\"\\#][^\s'\"\\]*", name):
            raise self.wrong(key, f"{name!r} cannot be typed as a verb")
        first = next(iter(line.split()), "")
        if first not in _LINE_VERBS:
            message = f"an alias begins with a verb, and {first!r} is none"
            raise self.wrong(key, message, name=first, names=_LINE_VERBS)


def _keys(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _keys(value, (*above, name))


def _parsed(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # "Expected ... (at line 3, column 5)", or "(at end of document)"
        what, _, place = str(error).rpartition(" (at ")
        number = re.match(r"line (\d+)", place)
        line = number[1] if number else str(text.rstrip().count("\n") + 1)
        raise UsageError(f"{path}:{line}: this is not TOML: {what}", hint=_WITHOUT) from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits
        raise UsageError(f"{path} cannot be read as TOML: {error}", hint=_WITHOUT) from error


def path_of_file() -> Path | None:
    """Return the path of the user's file, which need not exist; None if none is to be read."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return config_folder() / "config.toml"
    return Path(named) if named else None


def read_file() -> Settings:
    """Read the user's file; a missing one is empty, unless ``$QTCTL_CONFIG`` names it.

    Raises:
        UsageError: it cannot be read, others may write it, it is not TOML, or has another form.
    """
    path = path_of_file()
    if path is None or (VARIABLE not in os.environ and not os.path.exists(path)):  # noqa: PTH110
        return Settings()  # os.path.exists is also false in a folder of somebody else
    text = read_text(path, check=lambda state: _check_owner(path, state))
    return Settings(path, text)


def _check_owner(path: Path, state: os.stat_result) -> None:
    """Refuse a file that somebody else could write: its aliases may run commands, as ssh does."""
    if state.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"{path} belongs to user {state.st_uid}, and could make user {os.geteuid()} run "
            "commands",
            hint=_WITHOUT,
        )
    private_group = state.st_gid == state.st_uid  # with a umask of 002
    if state.st_mode & (stat.S_IWOTH if private_group else stat.S_IWOTH | stat.S_IWGRP):
        if stat.S_ISCHR(state.st_mode):
            return  # /dev/null
        raise UsageError(
            f"{path} may be written by others, who could make you run commands",
            hint=f"chmod go-w {path}",
        )


_used: Settings | None = Settings()


def use_file() -> None:
    """Let :func:`settings` read the user's file when it is first called."""
    global _used
    _used = None


def settings() -> Settings:
    """Return the settings of this process: empty, unless :func:`use_file` was called.

    Raises: what :func:`read_file` does.
    """
    global _used
    if _used is None:
        _used = read_file()
    return _used
