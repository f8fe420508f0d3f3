"""Parse and format numbers, sizes, rates and durations."""

from __future__ import annotations

import re

ABOUT = "~"
"""The mark of times at which qtctl read the records, and of figures by them."""

_SCALE = ("", "k", "M", "G", "T", "P", "E")
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SHORT_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def short(value: float) -> str:
    """Format a number >= 0 in at most five characters: ``0.4``, ``12``, ``1.23M``."""
    if 0 < value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    for unit in _SCALE:
        if value < 999.5:
            return (
                f"{value:.{0 if value >= 99.95 or not unit else 1 if value >= 9.995 else 2}f}{unit}"
            )
        value /= 1000
    return "huge"


def duration_words(time_ns: float) -> str:
    """Format a time in ns with a unit: ``873 ns``, ``52.1 us``, ``1.50 s``."""
    for size, unit in _SHORT_UNITS:
        # Use the next unit already where rounding would reach it.
        if abs(time_ns) >= size * 0.9995:
            value = time_ns / size
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{time_ns:.0f} ns"


def parse_duration(text: str) -> float | None:
    """Parse ``500ms``, ``10s``, ``10``, ``2m`` or ``1h``; return seconds, or None."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", text.strip(), re.ASCII)
    if not match or not 0 < float(match[1]) < float("inf"):
        return None
    return float(match[1]) * _SECONDS[match[2]]


def parse_rate(text: str) -> tuple[int, bool] | None:
    """Parse ``20000`` or ``20MB`` (per second); return (number, whether bytes), or None."""
    match = re.fullmatch(r"(\d+)([kMG]?)(B?)(?:/s)?", text.strip(), re.ASCII)
    number = int(match[1]) * _DECIMAL[match[2]] if match else 0
    if not match or not number or (match[2] and not match[3]):
        return None
    return number, bool(match[3])


def parse_size(text: str) -> int | None:
    """Parse ``64MiB`` or ``512K``; return bytes, or None."""
    match = re.fullmatch(r"(\d+)\s*([KMG])(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    return int(match[1]) * _BINARY[match[2].upper()] if match else None
