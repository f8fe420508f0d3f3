"""What differs between the QEMUs the fake can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Series:
    """One release series."""

    name: str
    #: The transcript of a log-only build, and of one with more or no backends where there is one.
    transcript: str
    many_transcript: str
    nop_transcript: str
    #: Declaration files, the better one first (10.0 has none of its own).
    declarations: tuple[str, ...]
    machine: str
    #: ``trace-event-*`` take and give ``vcpu``.
    vcpu: bool
    #: ``query-status`` has ``singlestep``.
    singlestep: bool
    #: ``query-cpus-fast`` names the CPU's type.
    cpu_type: bool
    #: ``info cpus`` names the CPU's model.
    cpu_model: bool
    #: Children of the object tree's root, in its order.
    root_objects: tuple[str, ...]
    #: Form of the prefix that ``-msg timestamp=on`` puts before a trace line.
    prefix: Literal["thread", "iso"]
    #: HMP ``logfile`` empties an existing file.
    logfile_truncates: bool
    #: stderr stays the log when ``logfile`` fails while it was; a file never does.
    stderr_survives: bool
    #: Syntax errors say where, in other words.
    json_positions: bool


_OLD_ROOT = ("backend", "objects", "machine", "chardevs")
_NEW_ROOT = ("backend", "machine", "objects", "chardevs")

SERIES = {
    "7.2": Series(
        name="7.2",
        transcript="7.2-log",
        many_transcript="7.2-multi",
        nop_transcript="7.2-nop",
        declarations=("7.2",),
        machine="pc-i440fx-7.2-machine",
        vcpu=True,
        singlestep=True,
        cpu_type=False,
        cpu_model=False,
        root_objects=_OLD_ROOT,
        prefix="thread",
        logfile_truncates=False,
        stderr_survives=False,
        json_positions=False,
    ),
    "10.0": Series(
        name="10.0",
        transcript="10.0-log",
        many_transcript="10.0-log",
        nop_transcript="10.0-log",
        declarations=("10.2", "7.2"),
        machine="pc-i440fx-10.0-machine",
        vcpu=False,
        singlestep=False,
        cpu_type=False,
        cpu_model=False,
        root_objects=_NEW_ROOT,
        prefix="thread",
        logfile_truncates=True,
        stderr_survives=True,
        json_positions=False,
    ),
    "10.2": Series(
        name="10.2",
        transcript="10.2-simple-log",
        many_transcript="10.2-simple-log",
        nop_transcript="10.2-simple-log",
        declarations=("10.2",),
        machine="pc-i440fx-10.2-machine",
        vcpu=False,
        singlestep=False,
        cpu_type=True,
        cpu_model=True,
        root_objects=_NEW_ROOT,
        prefix="iso",
        logfile_truncates=True,
        stderr_survives=True,
        json_positions=False,
    ),
    "11.1": Series(
        name="11.1",
        transcript="11.1-log",
        many_transcript="11.1-log",
        nop_transcript="11.1-log",
        declarations=("11.1",),
        machine="pc-i440fx-11.1-machine",
        vcpu=False,
        singlestep=False,
        cpu_type=True,
        cpu_model=True,
        root_objects=(*_NEW_ROOT, "audiodevs"),
        prefix="iso",
        logfile_truncates=True,
        stderr_survives=True,
        json_positions=True,
    ),
}

BACKENDS = ("log", "simple", "ftrace", "syslog", "ust", "dtrace", "nop")


def transcript_of(series: Series, backends: frozenset[str]) -> str:
    """Pick the captured build nearest to a choice of backends."""
    if backends == {"nop"}:
        return series.nop_transcript
    return series.transcript if backends == {"log"} else series.many_transcript
