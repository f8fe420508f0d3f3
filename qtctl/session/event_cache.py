"""A cache of the events that were listed last, so that a shell can complete them without a guest.

One file below ``$XDG_CACHE_HOME/qtctl``: the path of the declarations, then one name a line. If it
is lost, the declarations of an installed QEMU are read instead.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qtctl.backends.declared import installed_declarations
from qtctl.folders import cache_folder, write_whole
from qtctl.model import Declaration

_FEW = 50
"""Up to so many events are looked up one by one; for more, the whole file is parsed."""

_DECLARED = r"^(?:[\w-]+[ \t]+)*({start}\w*)[ \t]*\(([^)]*)\)"


def _path() -> Path:
    return cache_folder() / "events"


def remember(names: Iterable[str], declarations: Path | None) -> None:
    """Store the events of a guest; ignore a cache that cannot be written."""
    text = "\n".join([str(declarations or ""), *sorted(names), ""])
    path = _path()
    with contextlib.suppress(OSError, UnicodeError):
        if _text_of(path) != text:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, text)


def known_events(start: str) -> dict[str, str]:
    """Return known events that begin with ``start``, with their arguments as declared."""
    path, names = _seen()
    if names:
        declared = _declared(path, start) if path is not None else {}
        return {name: declared.get(name, "") for name in names if name.startswith(start)}
    found = (_declared(path, start) for path in installed_declarations())
    return next(filter(None, found), {})


def known_declarations(pick: Callable[[list[str]], Sequence[str]]) -> dict[str, Declaration]:
    """Return the declarations of those known events that ``pick`` chooses; some may have none."""
    from qtctl.events.declarations import declaration_of, parse_declarations

    path, names = _seen()
    places = [path] if names else installed_declarations()
    for place in filter(None, places):
        if not (text := _text_of(place)):
            continue
        if names and len(picked := pick(names)) <= _FEW:
            found = {name: declaration_of(text, name) for name in picked}
            return {name: one for name, one in found.items() if one is not None}
        declared = parse_declarations(text).by_name
        chosen = pick(names or list(declared))
        return {name: declared[name] for name in chosen if name in declared}
    return {}


def _seen() -> tuple[Path | None, list[str]]:
    first, *names = _text_of(_path()).splitlines() or [""]
    return Path(first) if first else None, names


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""


def _declared(path: Path, start: str) -> dict[str, str]:
    found = re.findall(_DECLARED.format(start=re.escape(start)), _text_of(path), re.MULTILINE)
    return {name: " ".join(arguments.split()) for name, arguments in found}
