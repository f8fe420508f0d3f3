from typing import Final

COMPILED: Final[bool]
PLAIN: Final[int]
MARK: Final[int]
EVENT: Final[int]
LOST: Final[int]

def split_trace(
    data: bytes,
    state: memoryview,
    final: bool,
    kind: memoryview,
    tid: memoryview,
    tgid: memoryview,
    time_ns: memoryview,
    start: memoryview,
    word: memoryview,
    first: memoryview,
    stop: memoryview,
    at: int,
    limit: int,
) -> tuple[int, int]: ...
