from typing import Final

COMPILED: Final[bool]
LITERAL: Final[int]
FIXED: Final[int]
SIGNED: Final[int]
UNSIGNED: Final[int]
CHOICE: Final[int]
FIELDS: Final[int]
LONGEST_SIGNED: Final[int]
LONGEST_UNSIGNED: Final[int]

def write_messages(
    plan: memoryview,
    texts: bytes,
    edges: memoryview,
    values: memoryview,
    rows: memoryview,
    tag: int,
    out: memoryview,
    begin: memoryview,
    stop: memoryview,
    at: int,
) -> int: ...
