from typing import Final

COMPILED: Final[bool]
LOST: Final[int]
BAD: Final[int]

def split_pages(
    data: bytes,
    page_bytes: int,
    stamp_at: int,
    commit_at: int,
    data_at: int,
    type_at: int,
    thread_at: int,
    final: bool,
    kind: memoryview,
    tid: memoryview,
    time_ns: memoryview,
    start: memoryview,
    stop: memoryview,
    at: int,
) -> tuple[int, int]: ...
def find_texts(
    data: bytes,
    kind: memoryview,
    start: memoryview,
    stop: memoryview,
    wanted: int,
    text_at: int,
    first: memoryview,
    end: memoryview,
) -> None: ...
