from typing import Final

COMPILED: Final[bool]
FIELDS: Final[tuple[str, ...]]

def parse_arguments(
    data: bytes,
    plan: memoryview,
    literals: bytes,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    ok: memoryview,
    work: memoryview,
    numbers: memoryview,
) -> None: ...
