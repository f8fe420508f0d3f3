from typing import Final

COMPILED: Final[bool]
TEXT: Final[int]
ALIVE: Final[int]
LOST: Final[int]

def split_lines(
    data: bytes,
    events: int,
    event: memoryview,
    time_ns: memoryview,
    tid: memoryview,
    start: memoryview,
    begin: memoryview,
    stop: memoryview,
    at: int,
) -> tuple[int, int]: ...
def read_arguments(
    data: bytes,
    numbers: int,
    texts: int,
    mark: bytes,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    out: memoryview,
    ok: memoryview,
) -> None: ...
