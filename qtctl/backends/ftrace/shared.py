"""The global trace buffer, for kernels whose instances get no copy of trace_marker (before 6.x).

Only two settings are touched, and only where nothing would be recorded otherwise: ``tracing_on``
and a buffer that is too small. The clock stays, since changing it empties the buffer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qtctl.backends.ring.tracefs import per_cpu_kib
from qtctl.errors import Unsupported
from qtctl.folders import inode_of

_SETTINGS = {"buffer_size_kb": 64, "tracing_on": 0}
"""Names, and how much more than asked the kernel may set: it rounds the size of a buffer up."""

_RAW = "per_cpu/cpu*/trace_pipe_raw"


@dataclass(frozen=True, slots=True)
class Shared:
    """The global buffer: its settings as found, by name, and whether its clock is known."""

    root: Path
    before: Mapping[str, str]
    timed: bool

    def wanted(self) -> dict[str, str]:
        """Return the settings that must change."""
        wanted = {}
        if int(self.before["buffer_size_kb"]) < per_cpu_kib():
            wanted["buffer_size_kb"] = str(per_cpu_kib())
        if self.before["tracing_on"] != "1":
            wanted["tracing_on"] = "1"
        return wanted

    def facts(self) -> dict[str, str]:
        """Return what :func:`put_back` needs."""
        facts = {"shared": str(self.root)}
        for name, value in self.wanted().items():
            facts |= {f"{name}_before": self.before[name], f"{name}_set": value}
        return facts


def find(root: Path) -> Shared:
    """Look at the settings; changes nothing.

    Raises:
        Unsupported: another process reads the buffer, so each would get a part.
    """
    reader = _reader_of(root)
    if reader:
        raise Unsupported(
            f"process {reader} reads the trace buffer of {root} already, and what it reads is gone",
            hint=f"end process {reader}",
        )
    before = {name: _read(root / name) for name in _SETTINGS}
    clock = (root / "trace_clock").read_text().partition("[")[2].partition("]")[0]
    return Shared(root, before, clock == "mono")


def _read(path: Path) -> str:
    """Return a setting; of ``7 (expanded: 1408)``, for a buffer not in use yet, the latter."""
    text = path.read_text().strip()
    return text.partition("expanded: ")[2].rstrip(")") or text


def _reader_of(root: Path) -> int:
    """Return a process that takes records out of the global buffer; 0 if there is none."""
    pipes = {inode_of(path) for path in (root / "trace_pipe", *root.glob(_RAW))} - {None}
    for process in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for entry in process.iterdir():
                link = os.readlink(entry)  # noqa: PTH115
                if link.endswith(("/trace_pipe", "/trace_pipe_raw")) and inode_of(entry) in pipes:
                    return int(process.parent.name)
    return 0


def prepare(found: Shared) -> None:
    """Apply the settings that must change.

    Raises:
        Unsupported: the kernel refuses.
    """
    for name, value in found.wanted().items():
        try:
            (found.root / name).write_text(value)
        except OSError as error:
            raise Unsupported(
                f"cannot set {found.root / name}: {error.strerror}", hint="run qtctl as root"
            ) from error


def put_back(facts: Mapping[str, str]) -> str:
    """Restore the settings that are still as qtctl set them; return a sentence on failures."""
    notes = []
    for name, most in _SETTINGS.items():
        path = Path(facts["shared"], name)
        before = facts.get(f"{name}_before")
        try:
            if (
                before is not None
                and 0 <= int(_read(path)) - int(facts.get(f"{name}_set", "")) <= most
            ):
                path.write_text(before)
        except (OSError, ValueError) as error:
            notes.append(f"{path} was {before} and could not be put back: {error}")
    return "; ".join(notes)
