from typing import Final

COMPILED: Final[bool]

def lay_out(
    data: bytes,
    begin: memoryview,
    size: memoryview,
    order: memoryview,
    bounds: memoryview,
    longest: int,
    out: memoryview,
) -> None: ...
def put_back(
    laid: bytes,
    size: memoryview,
    order: memoryview,
    bounds: memoryview,
    longest: int,
    begin: memoryview,
    out: memoryview,
) -> None: ...
