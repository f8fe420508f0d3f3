from typing import Final

COMPILED: Final[bool]

def find_sites(
    data: bytes,
    kind: memoryview,
    start: memoryview,
    stop: memoryview,
    address_at: int,
    least: int,
    addresses: memoryview,
    events: memoryview,
    kinds: memoryview,
    event: memoryview,
) -> None: ...
def read_fetched(
    data: bytes,
    numbers: int,
    texts: int,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    ok: memoryview,
) -> None: ...
def read_arguments(
    data: bytes,
    numbers: int,
    texts: int,
    mark: bytes,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    out: memoryview,
    ok: memoryview,
) -> None: ...
