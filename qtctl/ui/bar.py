"""What the bottom bar of a console says. Pure text."""

from __future__ import annotations

from dataclasses import dataclass

from qtctl.text.style import counted, escaped


@dataclass(frozen=True, slots=True)
class BarState:
    """What is known of a guest at a moment; ``rate`` is in records a second, None: nobody reads."""

    guest: str
    state: str
    on: int | None
    rate: float | None = None
    lost: int = 0
    unknown_losses: int = 0
    jobs: int = 0


def bar(facts: BarState) -> str:
    """Return the bar's text, what matters most first: a narrow terminal cuts its end."""
    parts = [f"{escaped(facts.guest)} {escaped(facts.state)}".strip()]
    if facts.on is not None:
        parts.append(f"{facts.on:,} on")
    if facts.rate is not None:
        parts.append(f"{facts.rate:,.0f}/s")
        parts.append(f"{facts.lost:,} lost" + (" and more" if facts.unknown_losses else ""))
    if facts.jobs:
        parts.append(counted(facts.jobs, "job"))
    return f" {' | '.join(parts)} "
