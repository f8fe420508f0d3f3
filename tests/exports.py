"""Files to be exported, and what is in them as ``replay`` tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.running import Qtctl
from tests.simplefiles import dropped, event, header, mapping

DECLARED = """\
odd(uint64_t u, int8_t i, const char *s, void *p, int event) "%lu %d %s %p %d"
none(void) ""
io_submit(void *dev, uint64_t tag) "dev %p tag %lu"
io_complete(void *dev, uint64_t tag) "dev %p tag %lu"
"""
BEGIN = header() + b"".join(
    mapping(code, name) for code, name in enumerate(("odd", "none", "io_submit", "io_complete"))
)
TEXTS = [
    b"",
    b'say "hi", \\ x',
    b"two\nlines\r\tand\x1b[31m\x7f\a",
    b"bad \xff\x80 ones",
    b"nul \0",
]
HOUR = 3600 * 10**9
EXTREME = (
    b"".join(
        event(0, n, 2**64 - 1 - n, -n, text, 2**63 + n, -(2**31)) for n, text in enumerate(TEXTS)
    )
    + dropped(7, 10)
    + event(0, 11, 5)  # cut short: no arguments
    + event(1, HOUR + 5, pid=4711)
    + event(1, 8)  # back in time
)
Record = dict[str, Any]


def carried(value: Any) -> Any:
    """Return a value as UTF-8 carries it: bytes that are none as four characters."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Case:
    """A file, and its records as ``replay --ndjson`` tells them."""

    def __init__(self, run: Qtctl, folder: Path, data: bytes, declared: str) -> None:
        self._run = run
        self._folder = folder
        self.path = folder / "trace"
        self.path.write_bytes(data)
        (folder / "all").write_text(declared)
        self._known = ("--events-all", str(folder / "all"))

    def records(self, *words: str) -> list[Record]:
        ran = self._run("replay", str(self.path), *self._known, "--ndjson", *words, limit=None)
        return [json.loads(line) for line in ran.out.splitlines()]

    def events(self, *words: str) -> list[Record]:
        return [one for one in self.records(*words) if one["type"] == "event"]

    def export(self, form: str, *words: str, code: int = 0) -> Path:
        out = self._folder / f"out.{form}"
        ran = self._run(
            "export", "--to", form, str(self.path), *words, *self._known, "-o", str(out), limit=None
        )
        ran.said(code)
        return out
