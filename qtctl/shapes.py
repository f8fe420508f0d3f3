"""Checked conversion of JSON from outside: QEMU, lenders, recordings and journals.

Such JSON may have any shape. What reads it converts each part by a function of this module, so that
a wrong shape is an error with its cause at the border, and never an exception further in.
"""

from __future__ import annotations

import json
from typing import Any

_SHOWN_LETTERS = 60


class Malformed(ValueError):
    """JSON from outside has another shape; the message says which part, and what stands there."""


def parsed(raw: bytes | str) -> Any:
    """Parse JSON.

    Raises:
        Malformed: it is none, it is nested too deeply, or a number has thousands of digits.
    """
    try:
        return json.loads(raw)
    except RecursionError:
        raise Malformed("JSON that is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed("bytes that are not UTF-8") from None
    except json.JSONDecodeError:
        raise Malformed(f"what is not JSON: {shown(raw)}") from None
    except ValueError:  # sys.set_int_max_str_digits
        raise Malformed("JSON with a number of thousands of digits") from None


def members(value: object, what: str) -> dict[str, Any]:
    """Return ``value``, which must be an object; ``what`` names it in the error."""
    if not isinstance(value, dict):
        raise _wrong(value, what, "an object")
    return value


def elements(value: object, what: str) -> list[Any]:
    """Return ``value``, which must be a list."""
    if not isinstance(value, list):
        raise _wrong(value, what, "a list")
    return value


def pair(value: object, what: str) -> tuple[Any, Any]:
    """Return the elements of ``value``, which must be a list of two."""
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(value, what, "a list of two")
    return value[0], value[1]


def member(value: dict[str, Any], name: str) -> Any:
    """Return a member of an object that must have it."""
    if name not in value:
        raise Malformed(f"{name!r} is missing in {shown(value)}")
    return value[name]


def any_text(value: object, what: str) -> str:
    """Return ``value``, which must be text; JSON may put any surrogates into it."""
    if not isinstance(value, str):
        raise _wrong(value, what, "text")
    return value


def text(value: object, what: str) -> str:
    """Return ``value``, which must be text; bytes that are not UTF-8 are surrogate escapes."""
    value = any_text(value, what)
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise _wrong(value, what, "text in Unicode") from None
    return value


def whole(value: object, what: str, least: int = -(1 << 63), most: int = (1 << 63) - 1) -> int:
    """Return ``value``, which must be an integer from ``least`` to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(value, what, "an integer")
    if not least <= value <= most:
        raise _wrong(value, what, f"from {least} to {most}")
    return value


def flag(value: object, what: str) -> bool:
    """Return ``value``, which must be true or false."""
    if not isinstance(value, bool):
        raise _wrong(value, what, "true or false")
    return value


def shown(value: object) -> str:
    """Return ``value`` for an error text, cut short."""
    try:
        words = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or too many digits
        words = f"a {type(value).__name__}"
    return words if len(words) <= _SHOWN_LETTERS else f"{words[: _SHOWN_LETTERS - 3]}..."


def _wrong(value: object, what: str, wanted: str) -> Malformed:
    return Malformed(f"{what} is {shown(value)}, not {wanted}")
