from typing import Final

COMPILED: Final[bool]
LITERAL: Final[int]
TEXT: Final[int]
NUMBER: Final[int]
FIELDS: Final[int]

def write_events(
    plan: memoryview,
    bounds: memoryview,
    texts: bytes,
    edges: memoryview,
    values: memoryview,
    kind: memoryview,
    place: memoryview,
    time_ns: memoryview,
    track: memoryview,
    out: memoryview,
) -> int: ...
def spread(
    track: memoryview, time_ns: memoryview, last: memoryview, shown: memoryview, out: memoryview
) -> None: ...
def lay_lanes(
    group: memoryview,
    start: memoryview,
    end: memoryview,
    width: int,
    ended: memoryview,
    lane: memoryview,
    at: int,
) -> int: ...
