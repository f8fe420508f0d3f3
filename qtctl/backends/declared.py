"""Finding the declarations for a file that holds none, and how well they fit it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qtctl.errors import UsageError
from qtctl.folders import read_text

if TYPE_CHECKING:
    from qtctl.events.declarations import Declarations
    from qtctl.records.counts import Declared

_ALL = "trace-events-all"
_PART = "trace-events"
_COMMAND = re.compile(r"^\{ *'command': *'([\w-]+)'", re.MULTILINE)
_PLACES = ("", "trace", "share/qemu", "build/trace", "build")


class Score(NamedTuple):
    """How many of the records (or events) of a sample are as declared."""

    fit: int
    of: int


def declaration_files(path: Path) -> list[Path]:
    """Return the files that a path given as declarations stands for.

    Of a folder, an installed QEMU or the tree of its source: its ``trace-events-all``, else all
    ``trace-events`` below it, those of Rust included. In a tree of source those that a build makes
    of QMP's commands belong to them, see :func:`declarations_text`.

    Raises:
        UsageError: the folder has neither.
    """
    if not path.is_dir():
        return [path]
    if whole := next((at for place in _PLACES if (at := path / place / _ALL).is_file()), None):
        return [whole]
    # Or a whole disk would be searched.
    is_tree = any(one.is_file() for one in (path / _PART, *path.glob(f"*/{_PART}")))
    if not is_tree:
        raise UsageError(
            f"no {_ALL} and no trace-events below {path}",
            hint="--events-all FILE, or the folder of QEMU's source",
        )
    folders = sorted(folder for folder, _, names in os.walk(path) if _PART in names)
    return [Path(folder, _PART) for folder in folders]


def declarations_text(path: Path) -> str:
    """Return the text of the declarations of a file or folder (see :func:`declaration_files`).

    Raises:
        UsageError: it cannot be read as text.
    """
    files = declaration_files(path)
    made = _made_by_qapi(path) if files[0].name == _PART else []
    return "\n".join([*map(read_text, files), *made])


def _made_by_qapi(source: Path) -> list[str]:
    """Return the declarations that a build makes of QMP's commands (since 7.0).

    Source: ``gen_trace`` in QEMU's scripts/qapi/commands.py.
    """
    script = source / "scripts/qapi/commands.py"
    if not script.is_file() or "qmp_enter_" not in read_text(script):
        return []
    schema = "\n".join(map(read_text, sorted(source.glob("qapi/*.json"))))
    names = [name.replace("-", "_") for name in _COMMAND.findall(schema)]
    return [
        f'qmp_enter_{name}(const char *json) "%s"\n'
        f'qmp_exit_{name}(const char *result, bool succeeded) "%s %d"'
        for name in names
    ]


def read_declarations(path: Path) -> Declarations:
    """Read a ``trace-events-all``, a ``trace-events``, or those of a folder.

    Raises:
        UsageError: it cannot be read as text.
    """
    from qtctl.events.declarations import parse_declarations

    return parse_declarations(declarations_text(path))


def declared_for(
    events_all: Path | None, score: Callable[[Declarations], Score], unit: str = "record"
) -> tuple[Declarations, Declared | None]:
    """Return the declarations given, else those of the installed QEMU that fit a sample best.

    None where none of the installed ones fits anything.

    Raises:
        UsageError: ``events_all`` cannot be read.
    """
    from qtctl.events.declarations import Declarations
    from qtctl.records.counts import Declared

    if events_all is not None:
        given = read_declarations(events_all)
        return given, Declared(str(events_all), False, *score(given), unit)
    best, used = Declarations({}), None
    for path in installed_declarations():
        try:
            found = read_declarations(path)
        except UsageError:
            continue
        points = score(found)
        if points.fit > (used.fit if used else 0):
            best, used = found, Declared(str(path), True, *points, unit)
    return best, used


def readable(items: Iterable[object]) -> Score:
    """Count the records among ``items`` whose arguments are as declared, and all that may be."""
    from qtctl.records.batch import Batch  # brings NumPy, which `qtctl enable` does without

    fit = of = 0
    for batch in items:
        if isinstance(batch, Batch):
            for event in batch.groups():
                if event >= 0 and (batch.reader is not None or batch.table.inverts(event)):
                    ok = batch.arguments(event).ok
                    fit, of = fit + int(ok.sum()), of + len(ok)
    return Score(fit, of)


def installed_declarations() -> list[Path]:
    """Return the trace-events-all of the QEMUs that are installed here."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    places = [Path(folder).parent / "share/qemu" for folder in folders if folder]
    places += [Path("/usr/share/qemu"), Path("/usr/local/share/qemu")]
    paths = (place / _ALL for place in dict.fromkeys(places))
    return [path for path in paths if path.is_file()]
