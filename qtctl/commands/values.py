"""Parsers of values on the command line: durations, counts, sizes, pairs, ordered patterns."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from qtctl.commands.registry import Options
from qtctl.errors import UsageError
from qtctl.events.files import read_events
from qtctl.events.selection import Selection
from qtctl.model import Budget
from qtctl.text.units import parse_duration, parse_rate, parse_size

EXCLUDED = "\0"
"""Marks a pattern of ``--except``, between :func:`in_order` and :func:`selection`."""

_LEAST_RING = 64 << 10


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
    """Read a budget for a second: events (``20000``), or bytes (``20MB``, ``500kB``)."""
    rate = parse_rate(text)
    if rate is None:
        raise argparse.ArgumentTypeError(f"not a rate: {text!r} (say 20000, for events, or 20MB)")
    number, is_bytes = rate
    return Budget(bytes_per_s=number) if is_bytes else Budget(number)


def ring(text: str) -> tuple[int | None, float | None]:
    """Read the size of a ring: bytes (``64MiB``, ``512K``) or a time (``30s``)."""
    size, seconds = parse_size(text), parse_duration(text)
    if size is None and seconds is None:
        raise argparse.ArgumentTypeError(f"not a size or duration: {text!r} (say 64MiB or 30s)")
    if size is not None and size < _LEAST_RING:
        raise argparse.ArgumentTypeError(f"a ring of {text} is too small: 64KiB is the least")
    return (size, None) if size is not None else (None, seconds)


def key(text: str) -> tuple[str, ...]:
    """Read ``req``, ``vdev,req``, ``sqid=cqid,cid`` or ``none``."""
    if text == "none":
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(part for name in names for part in name.split("=")):
        raise argparse.ArgumentTypeError(f"not arguments: {text!r} (say req, or vdev,req)")
    return names


def pair(text: str) -> tuple[str, str, tuple[str, ...] | None]:
    """Read ``START,END`` or ``START,END,KEY,KEY``; also the older ``START:END:KEY,KEY``.

    The arguments that are equal in both are None where they are to be found automatically.
    """
    words = [word.strip() for word in text.split(",")]
    if ":" in text and ("," not in text or words[0].count(":") == 2):
        start, _, rest = text.partition(":")
        end, _, names = rest.partition(":")
        words = [start.strip(), end.strip(), *(names.split(",") if names else ())]
    if len(words) < 2 or not all(words):
        raise argparse.ArgumentTypeError(f"not two events: {text!r} (say START,END)")
    return words[0], words[1], key(",".join(words[2:])) if words[2:] else None


def listener(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``[::1]:PORT``, where to listen; port 0 is a free one."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"not HOST:PORT: {text!r} (say 127.0.0.1:9464)")
    if ":" in host and not bracketed:
        raise argparse.ArgumentTypeError(f"ambiguous: {text!r} (say [::1]:9464)")
    return host[1:-1] if bracketed else host, int(port)


def pair_text(text: str) -> str:
    """Return a text that :func:`pair` can read as it is."""
    pair(text)
    return text


def parameter(text: str) -> tuple[str, int | str]:
    """Read ``NAME=VALUE``: a number, also in hex, or a text."""
    found = re.fullmatch(r"(\w+)=(.*)", text, re.DOTALL)
    if found is None:
        raise argparse.ArgumentTypeError(f"not a parameter: {text!r} (say tid=4712)")
    name, value = found.groups()
    if re.fullmatch("-?([0-9]{1,38}|0[xX][0-9a-fA-F]{1,16})", value, re.ASCII):
        return name, int(value, 16 if "x" in value.lower() else 10)
    return name, value


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


def jobs_of(options: Options) -> int:
    """Return how many threads may work on files at once."""
    return options.jobs or len(os.sched_getaffinity(0))


def files_of(options: Options) -> list[Path]:
    """Return the FILEs of a verb, and take those behind the first out of its patterns.

    No event is called as a word with a dot or a slash; any other word is a FILE if there is one.
    """
    files = [options.path]
    while options.patterns and _names_file(options.patterns[0]):
        files.append(Path(options.patterns.pop(0)))
    return files


def _names_file(word: str) -> bool:
    if word.startswith((EXCLUDED, "@")):
        return False
    return word == "-" or "/" in word or "." in word or Path(word).exists()


def selection(options: Options) -> Selection:
    """Return the ordered selection of a verb: ``--file`` first, then the patterns.

    Raises:
        UsageError: an empty pattern, only exclusions, or an events file that cannot be read.
    """
    file: Path | None = getattr(options, "file", None)
    rules = list(read_events(file)) if file else []
    if file and not rules:
        # Without a pattern tail follows what is on: an empty file must not mean that.
        raise UsageError(f"{file} names no event")
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
