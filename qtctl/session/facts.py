"""Facts of one guest beyond its monitor: declarations, log target, backends.

Each is read on first use, most of them without touching the guest.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qtctl.backends.declared import declarations_text
from qtctl.model import Backend, Declaration, Guest
from qtctl.monitor.client import Monitor
from qtctl.monitor.cmdline import QemuOptions, parse_cmdline
from qtctl.monitor.guest_paths import same_file, visible_path

if TYPE_CHECKING:
    from qtctl.backends.log.target import LogTarget
    from qtctl.events.declarations import Declarations


_FILES = 4
"""So many files of declarations are kept for further guests of the same build."""


class Backends(NamedTuple):
    """The backends that a guest has, and those that could not be detected from here."""

    known: tuple[Backend, ...]
    undecided: tuple[Backend, ...]


def _state_of(path: Path) -> tuple[object, ...]:
    """Return what changes when a file does; a folder is read anew each time."""
    if not path.is_file():
        return (object(),)
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size


@lru_cache(_FILES)
def _text(path: Path, state: tuple[object, ...]) -> str:
    return declarations_text(path)


@lru_cache(_FILES)
def _parsed(text: str) -> Declarations:
    from qtctl.events.declarations import parse_declarations

    return parse_declarations(text)


class Facts:
    """Facts of a guest; ``guest`` is None where its process cannot be seen."""

    def __init__(self, guest: Guest | None, events_all: Path | None = None) -> None:
        self.guest = guest
        self.events_all = events_all

    @cached_property
    def options(self) -> QemuOptions:
        """The options on the guest's command line."""
        return parse_cmdline(self.guest.argv if self.guest else ())

    @cached_property
    def declarations_path(self) -> Path | None:
        """The ``trace-events-all`` that belongs to the guest's binary, or None.

        Searched: ``--events-all``; a build tree (``trace/`` beside the binary); ``share/qemu``
        beside the binary's folder; QEMU's ``-L`` folders, which may be another build's.
        """
        if self.events_all is not None:
            return self.events_all
        guest = self.guest
        if guest is None:
            return None
        binary = Path(guest.exe.removesuffix(" (deleted)"))
        # The path of the binary is ours for a chroot, and the container's own for a container.
        root = "" if same_file(str(binary), f"/proc/{guest.pid}/exe") else guest.root
        beside = ("trace", "../share/qemu", "share/qemu", ".")
        folders = [
            *(f"{root}{os.path.normpath(binary.parent / place)}" for place in beside),
            *(visible_path(guest, folder) for folder in self.options.data_dirs),
        ]
        found = (Path(folder, "trace-events-all") for folder in folders)
        return next((path for path in found if path.is_file()), None)

    @cached_property
    def declarations_text(self) -> str | None:
        """Text of the declarations file, or None where there is none.

        Raises:
            UsageError: the file given cannot be read as text.
        """
        path = self.declarations_path
        return None if path is None else _text(path, _state_of(path))

    @cached_property
    def declarations(self) -> Declarations:
        """All declarations of the file; empty where there is none."""
        return _parsed(self.declarations_text or "")

    def declaration(self, name: str) -> Declaration | None:
        """Find one event's declaration without parsing all the others."""
        from qtctl.events.declarations import declaration_of

        return declaration_of(self.declarations_text or "", name)

    def log_target(self, backends: Backends, spools: Collection[str] = ()) -> LogTarget:
        """Return where the log goes now; ``spools`` are files to which qtctl redirected it."""
        from qtctl.backends.log.target import find_log

        options = self.options
        log_file = options.log_file
        if options.trace_file and Backend.SIMPLE not in backends.known:
            log_file = options.trace_file  # trace/control.c: without simple it moves the log
        per_thread = "tid" in options.log_items
        return find_log(self.guest, log_file, options.daemonize, per_thread, spools)

    async def backends(self, monitor: Monitor) -> Backends:
        """Detect the backends from the process and by commands of the human monitor."""
        from qtctl.backends import detect

        answers = {one: await monitor.hmp(line) for one, line in detect.questions().items()}
        signs = detect.signs_of_process(self.guest) if self.guest else detect.no_signs()
        signs = detect.with_answers(signs, answers)
        return Backends(detect.backends_from(signs), detect.undecided(signs))
