# Types of kernels.py, whose own annotations are C types; arrays are passed as their ``.data``.

from typing import Final

COMPILED: Final[bool]
FIELDS: Final[tuple[str, ...]]

def index_names(blob: bytes, offsets: memoryview, slots: memoryview) -> None: ...
def split_lines(
    data: bytes,
    blob: bytes,
    offsets: memoryview,
    slots: memoryview,
    extra: memoryview,
    longest: int,
    stamp: memoryview,
    final: bool,
    event: memoryview,
    time_ns: memoryview,
    tid: memoryview,
    start: memoryview,
    begin: memoryview,
    stop: memoryview,
    at: int,
    limit: int,
) -> tuple[int, int]: ...
def match_names(
    data: bytes,
    blob: bytes,
    offsets: memoryview,
    slots: memoryview,
    longest: int,
    start: memoryview,
    stop: memoryview,
    event: memoryview,
    begin: memoryview,
) -> None: ...
def group_rows(event: memoryview, heads: memoryview, order: memoryview) -> None: ...
def factorize(
    data: bytes,
    starts: memoryview,
    stops: memoryview,
    slots: memoryview,
    codes: memoryview,
    firsts: memoryview,
) -> int: ...
def parse_arguments(
    data: bytes,
    plan: memoryview,
    literals: bytes,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    ok: memoryview,
    work: memoryview,
    numbers: memoryview,
) -> None: ...
