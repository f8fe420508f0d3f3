from typing import Final

COMPILED: Final[bool]

def index_names(blob: bytes, offsets: memoryview, slots: memoryview) -> None: ...
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
