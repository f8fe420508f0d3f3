"""Prints the arguments of events as QEMU does: the inverse of ``qtctl.records.printf``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from qtctl.events.declarations import CONVERSION
from qtctl.model import Declaration


def render(declaration: Declaration, arguments: Mapping[str, int | str | None]) -> str:
    """Format an event's arguments like C's printf.

    Bytes that are not UTF-8 are surrogate escapes.

    Raises:
        KeyError: an argument is missing.
        ValueError: trace events do not use the conversion.
    """
    values = iter(declaration.arguments)

    def convert(match: re.Match[str]) -> str:
        letter = match["letter"]
        if letter == "%":
            return "%"
        width, precision = match["width"] or "", match["precision"]
        if width == "*":
            width = str(arguments[next(values).name])
        if precision == "*":
            precision = str(arguments[next(values).name])
        value = arguments[next(values).name]
        head = f"%{match['flags']}{width}" + ("" if precision is None else f".{precision}")
        return _render_one(head, match["length"], letter, value)

    return CONVERSION.sub(convert, declaration.format)


def _render_one(head: str, length: str | None, letter: str, value: int | str | None) -> str:
    result: bytes
    if letter == "s":
        text = b"(null)" if value is None else str(value).encode("utf-8", "surrogateescape")
        result = (head + "s").encode() % text
    elif letter == "p":
        address = int(value or 0) & (1 << 64) - 1
        result = (head + "s").encode() % (b"0x%x" % address if address else b"(nil)")
    elif letter == "c":
        result = (head + "s").encode() % bytes((int(value or 0) & 0xFF,))
    elif letter in "diuxXo":
        bits = {"hh": 8, "h": 16, None: 32}.get(length, 64)
        number = int(value or 0) & (1 << bits) - 1
        if letter in "di" and number >> bits - 1:
            number -= 1 << bits
        if number == 0 or letter == "d":
            head = head.replace("#", "")  # Python prints 0x0, C prints 0
        result = (head + ("d" if letter in "diu" else letter)).encode() % number
    else:
        raise ValueError(f"conversion %{letter} is not used by trace events")
    return result.decode("utf-8", "surrogateescape")
