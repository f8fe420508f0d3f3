from typing import Final

COMPILED: Final[bool]
START: Final[int]
END: Final[int]
WHOLE: Final[int]
MET_WORDS: Final[int]

def match(
    role: memoryview,
    key: memoryview,
    time_ns: memoryview,
    tag: memoryview,
    used: memoryview,
    keys: memoryview,
    times: memoryview,
    tags: memoryview,
    tally: memoryview,
    begins: memoryview,
    marks: memoryview,
    ends: memoryview,
    at: int,
    room: int,
    met: memoryview,
) -> int: ...
