"""JSON from outside is converted or refused with the cause."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qtctl import shapes
from qtctl.shapes import Malformed


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "thousands of digits"),
        (b'{"a": }', "not JSON: b'{\"a\": }'"),
        (b'"\xff"', "not UTF-8"),
        (b"", "not JSON"),
    ],
)
def test_what_cannot_be_parsed_is_described(raw: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        shapes.parsed(raw)


@pytest.mark.parametrize(
    ("convert", "value", "says"),
    [
        (shapes.members, [], "it is [], not an object"),
        (shapes.elements, {"a": 1}, "it is {'a': 1}, not a list"),
        (shapes.pair, [1], "not a list of two"),
        (shapes.text, None, "it is None, not text"),
        (shapes.text, "\ud800", "not text in Unicode"),
        (shapes.whole, True, "it is True, not an integer"),
        (shapes.whole, "1", "it is '1', not an integer"),
        (shapes.whole, 1.0, "not an integer"),
        (shapes.whole, 1 << 63, "not from"),
        (shapes.whole, 1 << 70, "not from"),
        (shapes.flag, 1, "it is 1, not true or false"),
        (shapes.text, [["x" * 500]], "...,"),
    ],
)
def test_a_wrong_shape_is_named(convert: Any, value: object, says: str) -> None:
    with pytest.raises(Malformed) as caught:
        convert(value, "it")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 150


def test_bytes_that_are_no_utf_8_are_text() -> None:
    assert shapes.text(json.loads('"a\\udcff"'), "it") == "a\udcff"
