from typing import Final

COMPILED: Final[bool]

def split_records(
    data: bytes,
    scratch: memoryview,
    place: int,
    name: memoryview,
    name_stop: memoryview,
    time_ns: memoryview,
    tid: memoryview,
    start: memoryview,
    begin: memoryview,
    stop: memoryview,
    at: int,
) -> tuple[int, int]: ...
def parse_fields(
    data: bytes,
    table: memoryview,
    names: bytes,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    escaped: memoryview,
    ok: memoryview,
) -> None: ...
