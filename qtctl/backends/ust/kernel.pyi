from typing import Final

COMPILED: Final[bool]
END: Final[int]
FIXED: Final[int]
READ: Final[int]
TICK: Final[int]
TEXT: Final[int]
RUN: Final[int]
LOOP: Final[int]
NEXT: Final[int]
SWITCH: Final[int]
CASE: Final[int]
JUMP: Final[int]
SIGNED: Final[int]
BIG: Final[int]
WHOLE: Final[int]
NEAR: Final[int]
LOOPS: Final[int]
DONE: Final[int]
FULL: Final[int]
BAD: Final[int]
UNKNOWN: Final[int]

def read_registers(
    data: bytes, base: int, program: memoryview, step: int, at: int, registers: memoryview
) -> int: ...
def split_packet(
    data: bytes,
    base: int,
    end: int,
    program: memoryview,
    header: int,
    classes: memoryview,
    registers: memoryview,
    state: memoryview,
    event: memoryview,
    time: memoryview,
    tid: memoryview,
    pid: memoryview,
    start: memoryview,
    begin: memoryview,
    stop: memoryview,
    row: int,
) -> tuple[int, int]: ...
def read_values(
    data: bytes,
    fields: memoryview,
    begin: memoryview,
    stop: memoryview,
    values: memoryview,
    spans: memoryview,
    ok: memoryview,
) -> None: ...
