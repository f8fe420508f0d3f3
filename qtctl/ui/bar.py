"""The text of a console's bottom bar. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from qtctl.text.style import counted, escaped


@dataclass(frozen=True, slots=True)
class BarState:
    """What the bar shows; ``rate`` is in records a second, None: no stream reads any."""

    guest: str
    state: str
    on: int | None
    rate: float | None = None
    lost: int = 0
    unknown_losses: int = 0
    jobs: int = 0


def bar(state: BarState) -> str:
    """Return the bar's text, most important first: a narrow terminal cuts its end."""
    parts = [f"{escaped(state.guest)} {escaped(state.state)}".strip()]
    if state.on is not None:
        parts.append(f"{state.on:,} on")
    if state.rate is not None:
        parts.append(f"{state.rate:,.0f}/s")
        parts.append(f"{state.lost:,} lost" + (" and more" if state.unknown_losses else ""))
    if state.jobs:
        parts.append(counted(state.jobs, "job"))
    return f" {' | '.join(parts)} "
