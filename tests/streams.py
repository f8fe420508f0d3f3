"""Checks objects of a stream against docs/schema/qtctl-1.json, and that the schema has all members.

Readers ignore members that they do not know; here an unknown one is a fault, of the page or of the
writer.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs/schema/qtctl-1.json").read_text()
)
TYPES = [one["$ref"].rpartition("/")[2] for one in SCHEMA["anyOf"]]
"""The types of objects."""
_MOST = 500
"""So many lines of a stream are checked, and the last: long ones repeat themselves."""


def closed(schema: Any) -> Any:
    """Return a schema whose objects have no members but those that it describes."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and "object" in found.get("type", ()):
        found.setdefault("additionalProperties", False)
    return found


@functools.cache
def _validator(kind: str) -> Callable[[Any], Any]:
    definitions = closed(SCHEMA["definitions"])
    schema = {**definitions[kind], "definitions": definitions, "$schema": SCHEMA["$schema"]}
    validate: Callable[[Any], Any] = fastjsonschema.compile(schema)
    return validate


def check(one: Any) -> None:
    """Check one object; raise AssertionError with it if it is not as described."""
    assert isinstance(one, dict), one
    kind = one.get("type")
    assert kind in TYPES, one
    try:
        _validator(kind)(one)
    except fastjsonschema.JsonSchemaValueException as error:
        raise AssertionError(f"{error.message} in {one}") from error


def check_stream(data: bytes) -> None:
    """Check what ``--ndjson`` wrote; a last line that was not finished is left out."""
    lines = data.split(b"\n")[:-1]
    for line in [*lines[:_MOST], *lines[_MOST:][-1:]]:
        check(json.loads(line))
