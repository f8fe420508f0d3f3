from typing import Final

COMPILED: Final[bool]
MORE: Final[int]
FULL: Final[int]
MAPPING: Final[int]
HEADER: Final[int]
DROPPED: Final[int]
BAD: Final[int]

def walk(
    data: bytes,
    at: int,
    version: int,
    swapped: bool,
    ids: memoryview,
    pid: memoryview,
    event: memoryview,
    time_ns: memoryview,
    start: memoryview,
    begin: memoryview,
    stop: memoryview,
) -> tuple[int, int, int]: ...
def resync(
    data: bytes,
    at: int,
    version: int,
    swapped: bool,
    ids: memoryview,
    pid: memoryview,
    final: bool,
) -> tuple[int, bool]: ...
def read_arguments(
    data: bytes,
    swapped: bool,
    fields: memoryview,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    ok: memoryview,
) -> None: ...
