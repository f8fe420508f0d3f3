from typing import Final

COMPILED: Final[bool]

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
