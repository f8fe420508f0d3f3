"""What may stand for a value on the command line: durations, counts, ordered patterns."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qtctl.errors import UsageError
from qtctl.events.files import read_events
from qtctl.events.patterns import Selection
from qtctl.model import Budget
from qtctl.text.units import parse_duration, parse_rate

EXCLUDED = "\0"
"""Marks a pattern that leaves out, between the reading of argv and :func:`selection`."""


def duration(text: str) -> float:
    """Read ``500ms``, ``10s``, ``10``, ``2m`` or ``1h`` as seconds."""
    seconds = parse_duration(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"not a duration: {text!r} (say 500ms, 10s, 2m or 1h)")
    return seconds


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"not a count: {text!r} (a whole number from 1)")
    return int(text)


def budget(text: str) -> Budget:
    """Read how much a second may be said: events (``20000``), or bytes (``20MB``, ``500kB``)."""
    rate = parse_rate(text)
    if rate is None:
        raise argparse.ArgumentTypeError(f"not a rate: {text!r} (say 20000, for events, or 20MB)")
    number, is_bytes = rate
    return Budget(bytes_per_s=number) if is_bytes else Budget(number)


def in_order(argv: Sequence[str]) -> list[str]:
    """Rewrite argv so that patterns and exclusions keep their order through argparse.

    ``--except P`` anywhere, and ``-P`` behind ``--``, become one word marked with ``EXCLUDED``.
    """
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--":
            words += [EXCLUDED + w[1:] if w.startswith("-") else w for w in rest]
        elif word == "--except":
            pattern = next(rest, None)
            if pattern is None or pattern.startswith("-"):
                raise UsageError("--except needs a pattern", hint="--except 'virtio_gpu*'")
            words.append(EXCLUDED + pattern)
        elif word.startswith("--except="):
            words.append(EXCLUDED + word.partition("=")[2])
        else:
            words.append(word)
    return words


def selection(options: argparse.Namespace) -> Selection:
    """Return the ordered selection of a verb: ``--file`` first, then the patterns.

    Raises:
        UsageError: an empty pattern, only exclusions, or an events file that cannot be read.
    """
    rules = list(read_events(options.file)) if getattr(options, "file", None) else []
    if getattr(options, "file", None) and not rules:
        # Without a pattern tail follows whatever is on, which nobody means by an empty file.
        raise UsageError(f"{options.file} names no event")
    for word in options.patterns:
        include = not word.startswith(EXCLUDED)
        pattern = word.removeprefix(EXCLUDED)
        if not pattern.strip():
            raise UsageError("an empty pattern names no event", hint="qtctl list")
        rules.append((include, pattern))
    if rules and not any(include for include, _ in rules):
        raise UsageError(
            "only exclusions were given, so nothing is selected", hint="'*' --except PATTERN"
        )
    return Selection(tuple(rules))
