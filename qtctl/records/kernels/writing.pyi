from typing import Final

COMPILED: Final[bool]
LITERAL: Final[int]
SIGNED: Final[int]
UNSIGNED: Final[int]
HEX: Final[int]
SIGNED_HEX: Final[int]
CHOICE: Final[int]
DIGITS: Final[int]
SPAN: Final[int]
IF_NEGATIVE: Final[int]
UNLESS_NEGATIVE: Final[int]
FIELDS: Final[int]

def write_rows(
    plan: memoryview,
    texts: bytes,
    edges: memoryview,
    values: memoryview,
    rows: memoryview,
    out: memoryview,
    begin: memoryview,
    stop: memoryview,
    at: int,
) -> int: ...
def gather(source: memoryview, begin: memoryview, stop: memoryview, out: memoryview) -> int: ...
def crop(
    source: memoryview,
    begin: memoryview,
    stop: memoryview,
    heads: memoryview,
    left: int,
    width: int,
    mark: bytes,
    out: memoryview,
    odd: memoryview,
) -> int: ...
