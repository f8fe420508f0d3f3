"""Finding the declarations for a file that holds none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.errors import UsageError
from qtctl.folders import read_text

if TYPE_CHECKING:
    from qtctl.events.declarations import Declarations


def read_declarations(path: Path) -> Declarations:
    """Read a ``trace-events-all``.

    Raises:
        UsageError: it cannot be read as text.
    """
    from qtctl.events.declarations import parse_declarations

    return parse_declarations(read_text(path))


def best_installed(score: Callable[[Declarations], int]) -> tuple[Declarations, int, Path | None]:
    """Return the declarations of the installed QEMU that score best, their score, and where.

    Those that score nothing are no declarations.
    """
    from qtctl.events.declarations import Declarations

    best: tuple[Declarations, int, Path | None] = Declarations({}), 0, None
    for path in installed_declarations():
        try:
            found = read_declarations(path)
        except UsageError:
            continue
        points = score(found)
        if points > best[1]:
            best = found, points, path
    return best


def declared_for_text(
    events_all: Path | None, score: Callable[[Declarations], int]
) -> tuple[Declarations, str] | None:
    """Return the declarations that score best for a text, and a phrase on where they are from.

    None where none of the installed ones scores.

    Raises:
        UsageError: ``events_all`` cannot be read.
    """
    if events_all is not None:
        return read_declarations(events_all), f"events declared in {events_all}"
    best, _, path = best_installed(score)
    if path is None:
        return None
    return best, f"events declared in {path} (a guess; else: --events-all FILE)"


def readable(items: Iterable[object]) -> int:
    """Count the records among ``items`` whose arguments are as declared."""
    from qtctl.records.batch import Batch  # brings NumPy, which `qtctl enable` does without

    return sum(
        int(batch.arguments(event).ok.sum())
        for batch in items
        if isinstance(batch, Batch)
        for event in batch.groups()
        if event >= 0
    )


def installed_declarations() -> list[Path]:
    """Return the trace-events-all of the QEMUs that are installed here."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    places = [Path(folder).parent / "share/qemu" for folder in folders if folder]
    places += [Path("/usr/share/qemu"), Path("/usr/local/share/qemu")]
    paths = (place / "trace-events-all" for place in dict.fromkeys(places))
    return [path for path in paths if path.is_file()]
