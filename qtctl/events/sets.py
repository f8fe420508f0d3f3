"""Named event sets: ``@virtio-blk`` stands for the patterns of an events file of that name.

A set is an events file in QEMU's format (``events/files.py``). Shipped ones are in ``sets/`` beside
this module, checked against the declarations of QEMU 7.2, 10.2 and 11.1. The user's own take
precedence: those of ``[sets]`` in the configuration file, then the files in
``$XDG_CONFIG_HOME/qtctl/sets``. QEMU's own names never start with ``@``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtctl.config import settings
from qtctl.errors import UsageError
from qtctl.events.files import parse_events, read_events
from qtctl.events.patterns import Rule, near, sets_in, words_of
from qtctl.folders import config_folder, write_whole

_SHIPPED = Path(__file__).parent / "sets"
_SUFFIX = ".events"
_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class EventSet:
    """A set as its file has it; ``about`` is the comment in its first line, ``own`` the user's."""

    name: str
    path: Path
    own: bool
    about: str
    rules: tuple[Rule, ...]


def own_folder() -> Path:
    """Return the folder of the user's own sets."""
    return config_folder() / "sets"


def own_path(name: str) -> Path:
    """Return the path of the user's own set of a name, which need not exist.

    Raises:
        UsageError: the name is not valid for a set.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name an event set: letters, digits, - _ and . can",
            hint="qtctl sets --save my-disk 'virtio_blk_*'",
        )
    return own_folder() / f"{name}{_SUFFIX}"


def names() -> list[str]:
    """Return the names of all sets, sorted."""
    paths = [*_SHIPPED.glob(f"*{_SUFFIX}"), *own_folder().glob(f"*{_SUFFIX}")]
    found = {path.name.removesuffix(_SUFFIX) for path in paths}
    return sorted({*settings().tables["sets"], *found})


def read_set(name: str) -> EventSet:
    """Read a set, the user's own in preference to a shipped one.

    Raises:
        UsageError: there is no such set, or its file is not an events file.
    """
    if name in settings().tables["sets"]:
        return _configured(name)
    own = own_path(name)
    path = own if own.exists() else _SHIPPED / own.name
    if not path.exists():
        similar = [f"@{found}" for found in near(name, names())]
        raise UsageError(
            f"there is no event set @{name}", hint=" or ".join(similar) or "qtctl sets"
        )
    return EventSet(name, path, path == own, _about(path), tuple(read_events(path)))


def _configured(name: str) -> EventSet:
    """Return a set of the configuration file: a list of the lines of an events file."""
    configured = settings()
    key, lines = ("sets", name), configured.tables["sets"][name]
    if not _NAME.fullmatch(name):
        raise configured.wrong(key, f"{name!r} cannot name an event set")
    try:
        rules = [rule for line in lines for rule in parse_events(line)]
    except UsageError as error:
        raise configured.wrong(key, error.message.partition(" is ")[2]) from error
    assert configured.path is not None
    return EventSet(name, configured.path, True, "", tuple(rules))


def save(name: str, rules: Iterable[Rule], *, replace: bool = False) -> Path:
    """Write the user's own set; return its file.

    Raises:
        UsageError: the name is not valid for a set, or is one of the configuration file's, the set
            would contain itself, it exists and ``replace`` is false, or it cannot be written.
    """
    path = own_path(name)
    if name in settings().tables["sets"]:
        raise UsageError(
            f"[sets] of {settings().path} has {name!r}, which would hide it",
            hint="save it under another name",
        )
    rules = list(rules)
    _refuse_itself(name, rules)
    text = "".join(f"{word}\n" for word in words_of(rules))
    place = path.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, text, replace=replace)
    except FileExistsError:
        raise UsageError(f"{path} exists", hint=f"qtctl sets --save {name} --force ...") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return path


def _refuse_itself(name: str, rules: Iterable[Rule], above: Sequence[str] = ()) -> None:
    for inner in sets_in(rules):
        if inner == name:
            raise UsageError(f"@{name} would contain itself", hint="save it under another name")
        check_chain(inner, above)
        _refuse_itself(name, read_set(inner).rules, (*above, inner))


def check_chain(name: str, above: Sequence[str]) -> None:
    """Check that a set does not contain itself; ``above`` are the sets around it.

    Raises:
        UsageError: it does.
    """
    if name in above:
        chain = " contains ".join(f"@{one}" for one in (*above[above.index(name) :], name))
        raise UsageError(f"an event set contains itself: {chain}")


def _about(path: Path) -> str:
    """Return the comment in the first line of a file, else an empty string."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline().removeprefix("\ufeff").strip()
    except OSError:
        return ""
    return first.lstrip("# ") if first.startswith("#") else ""
