from typing import Final

COMPILED: Final[bool]

def group_rows(event: memoryview, heads: memoryview, order: memoryview) -> None: ...
def factorize(
    data: bytes,
    starts: memoryview,
    stops: memoryview,
    slots: memoryview,
    codes: memoryview,
    firsts: memoryview,
) -> int: ...
