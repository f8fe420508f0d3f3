from typing import Final

COMPILED: Final[bool]
PLAIN: Final[int]
MINE: Final[int]
OTHER: Final[int]
DAEMON: Final[int]
REPEATED: Final[int]

def split_syslog(
    data: bytes,
    pid: int,
    state: memoryview,
    final: bool,
    kind: memoryview,
    time_ns: memoryview,
    count: memoryview,
    start: memoryview,
    first: memoryview,
    stop: memoryview,
    at: int,
    limit: int,
) -> tuple[int, int]: ...
