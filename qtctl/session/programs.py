"""QEMU's programs, and the options by which each is traced from its first event on.

Source: ``trace/control.c`` (``trace_opt_parse``, ``trace_init_file``), ``util/log.c``,
``softmmu/vl.c``, ``linux-user/main.c``, ``qemu-img.c`` and its likes. Checked on
QEMU 7.2 (Debian's, and one built with all backends). Where the simple backend is built in,
``file=`` names its file, else the log.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from qtctl.backends.detect import signs_in
from qtctl.errors import Unsupported, UsageError
from qtctl.model import Backend
from qtctl.monitor.cmdline import parse_cmdline

_ASK_TIMEOUT_S = 30.0
_TOOL = re.compile(r"(?:\S*/)?qemu-(img|io|nbd|storage-daemon) ")
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_NAME = re.compile(r"\w+", re.ASCII)
_DETACHING = ("-daemonize", "--daemonize", "--fork")
_TRACING = ("-T", "-trace", "--trace", "-D", "--D")
_SHOWS = "qtctl run PATTERN... -- qemu-system-x86_64 ..."


class ProgramKind(StrEnum):
    """What a program of QEMU's is: an emulator of a machine, of user programs, or a tool."""

    SYSTEM = "system"
    USER = "user"
    TOOL = "tool"


class Program(NamedTuple):
    """A program of QEMU's; ``names`` are its trace events.

    ``backend`` is the one that it is traced by; ``silences``: it has simple beside that.
    """

    path: Path
    kind: ProgramKind
    version: tuple[int, int, int]
    backend: Backend
    silences: bool
    names: tuple[str, ...]

    @property
    def has_monitor(self) -> bool:
        """Whether its events can be switched while it runs."""
        return self.kind is ProgramKind.SYSTEM

    def argv(self, arguments: Sequence[str], events: Path, spool: Path, qmp: Path) -> list[str]:
        """Return the command line that traces to ``spool`` the events that a file lists."""
        option = "--trace" if self.kind is ProgramKind.TOOL else "-trace"
        file = f",file={_escaped(spool)}"
        added: list[str] = []
        if self.kind is not ProgramKind.TOOL and self.backend is Backend.LOG:
            file = f",file={os.devnull}" if self.silences else ""
            added = ["-D", str(spool)]
        added += [option, f"events={_escaped(events)}{file}"]
        if self.kind is ProgramKind.SYSTEM:
            added += ["-qmp", f"unix:{_escaped(qmp)},server=on,wait=off"]
            if not {"-msg", "--msg"}.intersection(arguments):
                added += ["-msg", "timestamp=on"]
        return [str(self.path), *added, *arguments]


def find_program(words: Sequence[str]) -> Program:
    """Return the program that a command line starts, after asking it for its version and events.

    Raises:
        UsageError: there is none, or its options trace already, or put it into the background.
        Unsupported: it is no program of QEMU's, or has neither the log nor the simple backend.
    """
    if not words:
        raise UsageError("the program is missing, behind --", hint=_SHOWS)
    name = words[0]
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"there is no program {name!r}", hint=_SHOWS)
    path = Path(found).absolute()
    signs = signs_in(path, None, (Backend.LOG, Backend.SIMPLE))
    has_log, has_simple = bool(signs[Backend.LOG]), bool(signs[Backend.SIMPLE])
    if not has_log and not has_simple:
        raise Unsupported(
            f"{name} is no QEMU with the log or the simple backend, or a script that starts one",
            hint="name the program of QEMU itself; of other backends: start it, and qtctl tail",
        )
    kind, version = _described(path)
    _check(kind, words)
    # A tool takes no -D, and --trace file= names the file of simple.
    by_simple = has_simple and (kind is ProgramKind.TOOL or not has_log)
    backend = Backend.SIMPLE if by_simple else Backend.LOG
    option = "--trace" if kind is ProgramKind.TOOL else "-trace"
    names = [line.strip() for line in _asked(path, option, "help").splitlines()]
    named = tuple(sorted({one for one in names if _NAME.fullmatch(one)}))
    return Program(path, kind, version, backend, has_simple and not by_simple, named)


def _described(path: Path) -> tuple[ProgramKind, tuple[int, int, int]]:
    """Return what a program is, and its version, as it says itself."""
    first = _asked(path, "--version").partition("\n")[0]
    numbers = _VERSION.search(first)
    if not numbers or "qemu" not in first.lower():
        raise Unsupported(f"{path} --version names no QEMU: {first!r}", hint=_SHOWS)
    version = (int(numbers[1]), int(numbers[2]), int(numbers[3] or 0))
    if first.startswith("QEMU emulator"):
        return ProgramKind.SYSTEM, version
    return (ProgramKind.TOOL if _TOOL.match(first) else ProgramKind.USER), version


def _asked(path: Path, *arguments: str) -> str:
    try:
        ran = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().partition("\n")[0]
        raise Unsupported(
            f"{path} {' '.join(arguments)} ended with code {error.returncode}: {said}", hint=_SHOWS
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unsupported(
            f"{path} {' '.join(arguments)} did not end within {_ASK_TIMEOUT_S:g} s"
        ) from error
    return ran.stdout


def _check(kind: ProgramKind, words: Sequence[str]) -> None:
    """Refuse options that qtctl adds itself, and those that put the program into the background."""
    arguments = words[1:]
    if kind is ProgramKind.USER:  # behind its program's name all words are the program's
        count = next((n for n, one in enumerate(arguments) if not one.startswith("-")), None)
        arguments = arguments[:count]
    options = parse_cmdline(words) if kind is ProgramKind.SYSTEM else None
    leaves = options.daemonize if options else any(one in _DETACHING for one in arguments)
    if leaves:
        raise UsageError(
            f"{words[0]} is to go into the background, and run waits for its end",
            hint="without that option; or start it, and qtctl tail",
        )
    if options:
        traces = options.log_file is not None or options.trace_file is not None
    else:
        traces = any(one.partition("=")[0] in _TRACING for one in arguments)
    if traces:
        raise UsageError(
            f"{words[0]} is given a file to trace to, and run traces to one of its own",
            hint="without it; -o FILE or --record FILE keeps the records",
        )


def _escaped(path: Path) -> str:
    """Return a path as it stands in a list of QEMU's options."""
    return str(path).replace(",", ",,")
