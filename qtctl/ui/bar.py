"""The text of a console's bottom bar. Pure."""

from __future__ import annotations

from qtctl.text.style import counted, escaped


def bar(
    *, guest: str, state: str, on: int | None, rate: float | None, lost: int, more: bool, jobs: int
) -> str:
    """Return the bar's text, most important first: a narrow terminal cuts its end.

    ``on`` is the number of events that are on (None: unknown); ``rate`` is in records a second
    (None: no stream reads any); ``more``: an unknown number was lost beside ``lost``.
    """
    parts = [f"{escaped(guest)} {escaped(state)}".strip()]
    if on is not None:
        parts.append(f"{on:,} on")
    if rate is not None:
        parts.append(f"{rate:,.0f}/s")
        parts.append(f"{lost:,} lost" + (" and more" if more else ""))
    if jobs:
        parts.append(counted(jobs, "job"))
    return f" {' | '.join(parts)} "
