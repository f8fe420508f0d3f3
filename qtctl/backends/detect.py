"""Which trace backends a running QEMU has, told by signs in its binary and its open files.

Source: ``scripts/tracetool/backend/*.py`` and ``trace/control.c`` for what each backend leaves
behind; checked on QEMU 7.2 (Debian's and one built with all six), 10.0 and 11.1. HMP's answers,
where a monitor could be asked, win over what the binary suggests.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from qtctl.backends.elf import Elf
from qtctl.model import Backend, Guest

_SYSLOG_EVENT = b"object_class_dynamic_cast_assert "


@dataclass(frozen=True, slots=True)
class Signs:
    """What could be learned of one QEMU; None is "could not be looked at", never "no".

    ``help_log`` and ``trace_file`` are HMP's answers to ``help log`` and ``trace-file``. The
    ``has_*`` fields are texts in the binary: ``trace:PATTERN`` (log), ``trace-file`` (simple),
    ``trace_marker`` (ftrace is built in) and an event's format for syslog(3). ``trace_marker_fd``:
    the kernel's trace_marker is open; without tracefs, or permission, an ftrace build writes to
    /dev/null.
    """

    help_log: str | None = None
    trace_file: str | None = None
    has_trace_pattern: bool | None = None
    has_trace_file: bool | None = None
    has_trace_marker: bool | None = None
    has_syslog_format: bool | None = None
    needs_lttng_ust: bool | None = None
    usdt_provider_qemu: bool | None = None
    trace_marker_fd: bool | None = None


def backends_from(signs: Signs) -> tuple[Backend, ...]:
    """Return the backends that are known to be there, in the order of ``Backend``.

    ``(Backend.NOP,)`` means that each of the six was looked for and is absent; an empty result
    that nothing was found and something could not be looked at (``undecided`` tells what).
    """
    found = tuple(backend for backend, sign in _signs(signs).items() if sign)
    return found or (() if undecided(signs) else (Backend.NOP,))


def undecided(signs: Signs) -> tuple[Backend, ...]:
    """Return the backends that may or may not be there, because a sign could not be read."""
    return tuple(backend for backend, sign in _signs(signs).items() if sign is None)


def signs_of_process(guest: Guest) -> Signs:
    """Read the signs of a local guest from its binary and open files; asks no monitor.

    What may not be read (another user's process, one that is gone) stays None. Never raises.
    Takes about 0.1 s for a binary of 100 MB.
    """
    try:
        with Path(f"/proc/{guest.pid}/exe").open("rb") as file:
            signs = signs_of_binary(file)
    except (OSError, ValueError):
        signs = Signs()
    return replace(signs, trace_marker_fd=_has_trace_marker_open(guest.pid))


def signs_of_binary(file: IO[bytes]) -> Signs:
    """Read the signs in an executable that is open for reading.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        signs = Signs(
            has_trace_pattern=image.find(b"trace:PATTERN") >= 0,
            has_trace_file=image.find(b"trace-file") >= 0,
            has_trace_marker=image.find(b"trace_marker") >= 0,
            has_syslog_format=_has_syslog_format(image),
        )
        return _elf_signs(signs, image)


def _has_syslog_format(image: mmap.mmap) -> bool:
    """Return whether the binary holds ``EVENT FORMAT``, of an event that all QEMUs have.

    ``backend/syslog.py`` of tracetool passes that text to syslog(3). The log and ftrace backends
    end it with a newline, and the others have no such text. An import of ``openlog`` proves
    nothing: other parts of a program may write to syslog, and a static QEMU imports nothing.
    """
    at = image.find(_SYSLOG_EVENT)
    while at >= 0:
        end = image.find(b"\0", at)
        if image.find(b"\n", at, end) < 0 <= end:
            return True
        at = image.find(_SYSLOG_EVENT, at + 1)
    return False


def _signs(signs: Signs) -> dict[Backend, bool | None]:
    log = signs.has_trace_pattern
    if signs.help_log is not None:
        log = "trace:PATTERN" in signs.help_log
    simple = signs.has_trace_file
    if signs.trace_file is not None:
        simple = "unknown command" not in signs.trace_file
    ftrace = False if signs.has_trace_marker is False else signs.trace_marker_fd
    return {
        Backend.LOG: log,
        Backend.SIMPLE: simple,
        Backend.FTRACE: ftrace,
        Backend.SYSLOG: signs.has_syslog_format,
        Backend.UST: signs.needs_lttng_ust,
        Backend.DTRACE: signs.usdt_provider_qemu,
    }


def _has_trace_marker_open(pid: int) -> bool | None:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            links = [_link(entry.path) for entry in entries]
    except OSError:
        return None
    return any(link.endswith("/trace_marker") for link in links)


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - the text as the kernel gives it
    except OSError:
        return ""


def _elf_signs(signs: Signs, image: mmap.mmap) -> Signs:
    try:
        elf = Elf(image)
    except ValueError:
        return signs
    return replace(
        signs,
        needs_lttng_ust=_looked_at(_needs_lttng_ust, elf),
        usdt_provider_qemu=_looked_at(_has_qemu_probes, elf),
    )


def _looked_at(look: Callable[[Elf], bool], elf: Elf) -> bool | None:
    """Return what ``look`` finds; None without section headers, or where they are damaged."""
    try:
        return look(elf) if elf.sections else None
    except (ValueError, IndexError, struct.error):
        return None


def _needs_lttng_ust(elf: Elf) -> bool:
    return any(name.startswith(b"liblttng-ust") for name in elf.needed())


def _has_qemu_probes(elf: Elf) -> bool:
    """Look for one probe of provider ``qemu`` in the notes of ``sys/sdt.h``."""
    section = elf.sections.get(b".note.stapsdt")
    if section is None:
        return False
    data, at, addresses = elf.data(section), 0, 3 * elf.bits // 8
    while at + 12 <= len(data):
        name_size, text_size, _ = struct.unpack_from(elf.order + "III", data, at)
        text = at + 12 + _aligned(name_size)
        provider = data[text + addresses : text + text_size].partition(b"\0")[0]
        if provider == b"qemu":
            return True
        at = text + _aligned(text_size)
    return False


def _aligned(size: int) -> int:
    return (size + 3) & ~3
