"""The guest behind the monitor: its build, its run state and its answers to queries."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from . import transcripts
from .logfile import LogTarget
from .simplefile import SimpleFile
from .trace import TraceEvents
from .versions import BACKENDS, SERIES, transcript_of

UUID = "00000000-0000-0000-0000-000000000000"


class Machine:
    """One pretended guest."""

    def __init__(
        self,
        *,
        qemu: str = "7.2",
        backends: Collection[str] = ("log",),
        name: str | None = "demo",
        log: Path | None = None,
    ) -> None:
        unknown = set(backends) - set(BACKENDS)
        if unknown or not backends:
            raise ValueError(f"no such backends: {sorted(unknown)}")
        self.series = SERIES[qemu]
        self.backends = frozenset(backends)
        self.transcript = transcripts.load(transcript_of(self.series, self.backends))
        self.trace = TraceEvents(
            self.transcript.returned("trace-event-get-state", name="*"), vcpu=self.series.vcpu
        )
        self.simple = SimpleFile([event.name for event in self.trace.events])
        self.log = LogTarget(self.series, path=log, wanted="log" in self.backends)
        self.name = name
        self.running = True
        self.chardev = "unix:,server=on"
        self.on_event: Callable[[str, dict[str, Any] | None], None] = lambda name, data: None

    @property
    def version(self) -> dict[str, Any]:
        """What the greeting and ``query-version`` say."""
        found: dict[str, Any] = self.transcript.greeting["QMP"]["version"]
        return found

    @property
    def commands(self) -> frozenset[str]:
        """Every QMP command that build knows."""
        return frozenset(row["name"] for row in self.transcript.returned("query-commands"))

    def chardevs(self) -> list[dict[str, Any]]:
        """List the character devices."""
        captured: list[dict[str, Any]] = self.transcript.returned("query-chardev")
        return [
            {**row, "filename": self.chardev} if row["label"] == "compat_monitor0" else row
            for row in captured
        ]

    def cpus(self) -> list[dict[str, Any]]:
        """List the virtual CPUs."""
        captured: list[dict[str, Any]] = self.transcript.returned("query-cpus-fast")
        return [{**row, "thread-id": os.getpid()} for row in captured]

    def status(self) -> dict[str, Any]:
        """Return the run state."""
        steps = {"singlestep": False} if self.series.singlestep else {}
        word = "running" if self.running else "paused"
        return {"status": word, **steps, "running": self.running}

    def info(self, topic: str) -> str:
        """Return the human monitor's word on a topic."""
        match topic:
            case "version":
                number = self.version["qemu"]
                dotted = f"{number['major']}.{number['minor']}.{number['micro']}"
                return dotted + str(self.version["package"])
            case "status":
                return f"VM status: {'running' if self.running else 'paused'}"
            case "name":
                return self.name or ""
            case "uuid":
                return UUID
            case "kvm":
                return "kvm support: disabled"
            case "cpus":
                model = " model=qemu64" if self.series.cpu_model else ""
                return f"* CPU #0: thread_id={os.getpid()}{model}"
            case _:
                rows = (f"{row['label']}: filename={row['filename']}" for row in self.chardevs())
                return "\r\n".join(rows)

    def stop(self) -> None:
        """Pause the guest."""
        if self.running:
            self.running = False
            self.on_event("STOP", None)

    def cont(self) -> None:
        """Let the guest go on."""
        if not self.running:
            self.running = True
            self.on_event("RESUME", None)
