"""How the kernel lays out its trace buffer: parsed from what tracefs says, never assumed.

Source: Documentation/trace/ring-buffer-map.rst, and include/linux/ring_buffer.h of Linux, 6.1 to
6.18. ``events/header_page`` describes a page, ``events/header_event`` the head of a record in it,
and ``events/GROUP/EVENT/format`` what a record holds.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FIELD = re.compile(
    r"^\s*field:\s*(?P<kind>[^;]*?)\s*\b(?P<name>\w+)(?P<many>\[[^\]]*\])?;"
    r"\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);(?:\s*signed:(?P<signed>\d))?",
    re.MULTILINE,
)
_HEAD = {
    r"type_len\s*:\s*(\d+) bits": 5,
    r"time_delta\s*:\s*(\d+) bits": 27,
    r"array\s*:\s*(\d+) bits": 32,
    r"padding\s*:\s*type == (\d+)": 29,
    r"time_extend\s*:\s*type == (\d+)": 30,
    r"time_stamp\s*:\s*type == (\d+)": 31,
    r"data max type_len\s*== (\d+)": 28,
}
"""What ``header_event`` must say, for that is what the kernel module reads."""


RECORD_BYTES = 8
"""A record that is shorter cannot be read: the common fields lie in these."""


class Field(NamedTuple):
    """Where a field lies in a record or a page, in bytes; ``ctype`` is as declared, with []."""

    offset: int
    size: int
    ctype: str = ""
    signed: bool = False


class EventFormat(NamedTuple):
    """A kernel event: its number, its fields by name, and how the kernel prints it."""

    number: int
    fields: dict[str, Field]
    printed: str = ""


class Layout(NamedTuple):
    """The form of pages, and where each record has its event's number and its thread's."""

    page_bytes: int
    stamp_at: int
    commit_at: int
    data_at: int
    type_at: int = 0
    thread_at: int = 4


def parse_fields(text: str) -> dict[str, Field]:
    """Return the fields that a description lists, by name."""
    return {
        found["name"]: Field(
            int(found["offset"]),
            int(found["size"]),
            found["kind"] + (found["many"] or ""),
            found["signed"] == "1",
        )
        for found in _FIELD.finditer(text)
    }


def parse_format(text: str) -> EventFormat:
    """Parse an event's ``format``.

    Raises:
        ValueError: it has no number, or not the fields that every event has.
    """
    number, fields = re.search(r"^ID: (\d+)$", text, re.MULTILINE), parse_fields(text)
    if number is None:
        raise ValueError("an event without a number")
    if fields.get("common_type", Field(0, 0)).size != 2:
        raise ValueError("an event without a common_type of 2 bytes")
    if fields.get("common_pid", Field(0, 0)).size != 4:
        raise ValueError("an event without a common_pid of 4 bytes")
    return EventFormat(int(number[1]), fields, text.partition("\nprint fmt: ")[2].strip())


def parse_layout(page: str, head: str, event: EventFormat) -> Layout:
    """Return the layout from ``header_page``, ``header_event`` and any event's format.

    Raises:
        ValueError: this kernel has another form of pages or records than is known.
    """
    for pattern, wanted in _HEAD.items():
        found = re.search(pattern, head)
        if found is None or int(found[1]) != wanted:
            raise ValueError(f"header_event has no {pattern.split(chr(92))[0]} of {wanted}")
    fields = parse_fields(page)
    try:
        stamp, commit, data = fields["timestamp"], fields["commit"], fields["data"]
    except KeyError as error:
        raise ValueError(f"header_page has no {error}") from None
    if stamp.size != 8 or commit.size != 8:
        raise ValueError("header_page has fields of another size than 8 bytes")
    types, threads = event.fields["common_type"], event.fields["common_pid"]
    if max(stamp.offset, commit.offset) + 8 > data.offset:
        raise ValueError("header_page has its fields elsewhere than before the data")
    if types.offset + 2 > RECORD_BYTES or threads.offset + 4 > RECORD_BYTES:
        raise ValueError(f"common fields lie behind the first {RECORD_BYTES} bytes of a record")
    size = data.offset + data.size
    return Layout(size, stamp.offset, commit.offset, data.offset, types.offset, threads.offset)
