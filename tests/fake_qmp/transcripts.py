"""Reads the captured conversations with real QEMUs that the fake is made of."""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the client sent and every line the server said until the next one."""

    sent: str
    heard: tuple[str, ...]

    @property
    def call(self) -> dict[str, Any] | None:
        """The request as an object; nothing when the line was deliberately broken."""
        try:
            request = json.loads(self.sent)
        except ValueError:
            return None
        return request if isinstance(request, dict) else None

    @property
    def answer(self) -> dict[str, Any]:
        """The reply, without the events before it."""
        reply: dict[str, Any] = json.loads(self.heard[-1])
        return reply


@dataclass(frozen=True, slots=True)
class Transcript:
    """One captured conversation."""

    greeting: dict[str, Any]
    exchanges: tuple[Exchange, ...]

    def returned(self, command: str, **arguments: object) -> Any:
        """Return what the last successful call of that form gave."""
        wanted = {name.replace("_", "-"): value for name, value in arguments.items()}
        for exchange in reversed(self.exchanges):
            call = exchange.call
            if call is None or call.get("execute") != command:
                continue
            if call.get("arguments", {}) == wanted and "return" in exchange.answer:
                return exchange.answer["return"]
        raise LookupError(f"the transcript has no good {command} {wanted}")

    def hmp(self, line: str) -> str:
        """Return what the human monitor said to a line."""
        text: str = self.returned("human-monitor-command", command_line=line)
        return text


@functools.cache
def load(name: str) -> Transcript:
    """Read ``qemu-NAME-qmp.txt.gz``."""
    exchanges: list[tuple[str, list[str]]] = []
    greeting: dict[str, Any] = {}
    with gzip.open(DATA / f"qemu-{name}-qmp.txt.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            mark, text = line[:3], line[3:].rstrip("\n")
            if mark == "-> ":
                exchanges.append((text, []))
            elif mark == "<- " and exchanges:
                exchanges[-1][1].append(text)
            elif mark == "<- ":
                greeting = json.loads(text)
    return Transcript(greeting, tuple(Exchange(sent, tuple(heard)) for sent, heard in exchanges))
