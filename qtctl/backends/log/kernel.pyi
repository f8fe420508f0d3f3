from typing import Final

COMPILED: Final[bool]

def split_lines(
    data: bytes,
    blob: bytes,
    offsets: memoryview,
    slots: memoryview,
    extra: memoryview,
    longest: int,
    stamp: memoryview,
    anywhere: bool,
    final: bool,
    event: memoryview,
    time_ns: memoryview,
    tid: memoryview,
    start: memoryview,
    named: memoryview,
    begin: memoryview,
    stop: memoryview,
    at: int,
    limit: int,
) -> tuple[int, int]: ...
