"""Every declaration of three QEMUs, printed by the printf of the C library and read back.

What is read back as values must be what was printed; the rest must be raw. The shares of both are
printed with ``pytest -rP``.
"""

from __future__ import annotations

import ctypes
import platform
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.text import TextDecoder
from qtctl.events.declarations import CONVERSION
from qtctl.model import Declaration, Kind
from qtctl.records.columns import Record
from tests.samples import VERSIONS, batches, event_table

ROWS = 3
SECOND = 1_700_000_000
ISO = "2023-11-14T22:13:{second:02}.{n:06}Z "
STAMPS = {
    "iso": ISO,
    "thread": "7@{unix}.{n:06}:",
    "none": "",
    "syslog": "<30>1 " + ISO + "host qemu-system-x86_64 7 - - ",
    "docker": "2023-11-14T22:13:{second:02}.{n:06}111Z stderr F ",
}
WHOLE = {"iso": 0.85, "thread": 0.75, "none": 0.75, "syslog": 0.75, "docker": 0.75}
"""Least shares that are read as values; of records with a text, half have newlines or blanks."""
LETTERS = bytes(byte for byte in range(1, 256) if byte not in b"\r\x1b")
Value = int | bytes | None

libc = ctypes.CDLL(None)
room = ctypes.create_string_buffer(1 << 16)


def stars(declaration: Declaration) -> list[bool]:
    """Return, by argument, whether it is the width or precision of another."""
    found: list[bool] = []
    for match in CONVERSION.finditer(declaration.format):
        if match["letter"] != "%":
            found += [True] * (match["width"], match["precision"]).count("*") + [False]
    return found


def values(declaration: Declaration, source: random.Random) -> Iterator[Value]:
    """Yield a random value for each argument."""
    counts = stars(declaration) + [False] * len(declaration.arguments)
    for argument, is_count in zip(declaration.arguments, counts, strict=False):
        if argument.kind is Kind.STRING:
            size = source.choice((0, 1, 3, 12, 30))
            letters = source.choice((LETTERS, b"abc 01:x", b"\n ab"))
            yield source.choice((bytes(source.choices(letters, k=size)), b"plain", b"vm1", None))
        elif is_count:
            yield source.randrange(12)
        elif "bool" in argument.ctype:
            yield source.randrange(2)
        else:
            bits = source.choice((1, 4, 8, argument.bits, argument.bits))
            value = source.getrandbits(min(bits, argument.bits))
            signed = argument.signed and value >> argument.bits - 1
            yield value - (1 << argument.bits) if signed else value


def printed(declaration: Declaration, arguments: list[Value]) -> bytes:
    """Print arguments as QEMU does; integers are promoted to 64 bits, as registers are."""
    passed = [
        ctypes.c_char_p(value)
        if argument.kind is Kind.STRING
        else ctypes.c_uint64(int(value or 0) & (1 << 64) - 1)
        for argument, value in zip(declaration.arguments, arguments, strict=True)
    ]
    form = declaration.format.encode("utf-8", "surrogateescape")
    size = libc.snprintf(room, len(room), form, *passed)
    assert 0 <= size < len(room)
    return room.raw[:size]


def fits(declaration: Declaration) -> bool:
    """Return whether a compiler takes the format: there are as many arguments as it prints."""
    return len(stars(declaration)) <= len(declaration.arguments)


def same(record: Record, declaration: Declaration, arguments: list[Value]) -> bool:
    by_name = {one.name: one for one in declaration.arguments}
    given = dict(zip(by_name, arguments, strict=True))
    return all(
        value == (given[name].decode("utf-8", "surrogateescape"))  # type: ignore[union-attr]
        if isinstance(given[name], bytes)
        else value == given[name]
        for name, value in record.args.items()
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86_64: how it passes arguments")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stamp", STAMPS)
def test_what_is_printed_is_read_or_raw(version: str, stamp: str) -> None:
    source = random.Random(f"{version} {stamp}")
    table = event_table(version)
    rows: list[tuple[Declaration, list[Value]]] = []
    text = b""
    for declaration in table.declarations.values():
        if not fits(declaration):
            continue
        for _ in range(ROWS):
            arguments = list(values(declaration, source))
            head = STAMPS[stamp].format(
                unix=SECOND + len(rows) // 10**6,
                second=20 + len(rows) // 10**6,
                n=len(rows) % 10**6,
            )
            line = head.encode() + declaration.name.encode() + b" "
            text += line + printed(declaration, arguments) + b"\n"
            rows.append((declaration, arguments))
    decoder = LogDecoder(table) if stamp in ("iso", "none") else TextDecoder(table)
    items = decoder.feed(text, Clocks(1)) + decoder.flush(Clocks(1))
    records = [record for batch in batches(items) for record in batch.records() if record.name]
    counts = Counter[str]()
    assert [record.name for record in records] == [declaration.name for declaration, _ in rows]
    for record, (declaration, arguments) in zip(records, rows, strict=True):
        if record.raw is None:
            assert same(record, declaration, arguments), (record, arguments)
        counts["raw" if record.raw is not None else "exact"] += 1
    share = counts["exact"] / len(rows)
    print(f"QEMU {version}, stamps: {stamp}: {len(rows)} records, {share:.1%} exact, the rest raw")
    assert share >= WHOLE[stamp]
