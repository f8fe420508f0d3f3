"""Errors for files without records that qtctl reads: their kind, and a hint."""

from __future__ import annotations

import re

from qtctl.backends.declared import installed_declarations
from qtctl.errors import QtctlError

_SNIFF_BYTES = 4096
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
}
_BINARY = {
    b"\x17\x08\x44tracing": ("what trace-cmd recorded", "trace-cmd report FILE > text; read that"),
    b"PERFILE2": ("what perf recorded", "perf script > text; read that"),
    b"PAR1": ("a Parquet file", "DuckDB, Polars and others read it"),
}
_RECORDS = re.compile(
    rb"^(?:\d{1,10}@\d{1,10}\.\d{6}:\w|(?:[\d-]{10}T[\d:.]+Z )?[a-z][a-z0-9]*_\w+(?: |\r?$))",
    re.MULTILINE,
)
"""Lines that may be records of events that are not known here."""
_OWN = "what qtctl printed or exported, for people and for other programs"
_RECORD = "qtctl record -o FILE keeps what can be read again"
_TEXTS = (
    (re.compile(rb'\{"type": ?"(?:event|control|loss|text|summary|guest|mark)"'), _OWN, _RECORD),
    (re.compile(rb"type,time_ns,clock,pid,"), _OWN, _RECORD),
    (
        re.compile(rb"(?:\[?[\d:]+\.\d{9}\]? \(\+\S+\) )(?:\S+ )?qemu:\w+: \{", re.MULTILINE),
        "what babeltrace2 printed of an LTTng trace",
        "read the folder of the trace itself",
    ),
    (
        re.compile(rb"^(?:\[[^\]\n]+\] )?\[ID: \d{8}\] |\bvirtiofsd(?:::\w+)*\] ", re.MULTILINE),
        "what virtiofsd printed, which has no trace events",
        "QEMU's side of it: qtctl tail 'vhost_user_*'",
    ),
    (
        re.compile(rb"^\d+ [a-z]\w+\(.*\) = (?:-?\d+|0x[0-9a-f]+)", re.MULTILINE),
        "what a linux-user QEMU printed of system calls (-strace)",
        "its trace events: qemu-x86_64 -trace 'PATTERN' -D FILE PROGRAM",
    ),
    (
        re.compile(
            rb"^(?:\+?[\d:]+\.\d{6} )?(?:\d+ )?[a-z]\w+(?: \w+=(?:'[^']*'|\S+))+$", re.MULTILINE
        ),
        _OWN,
        _RECORD,
    ),
)


def check_readable(head: bytes, where: str) -> None:
    """Raise an error for a file that cannot be text, or is certainly no log.

    Raises:
        QtctlError: it is empty, packed, binary, or what qtctl printed for programs.
    """
    if not head:
        raise QtctlError(f"{where} is empty")
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise QtctlError(
                f"{where} is packed with {name}", hint=f"{name} -dc {where} | qtctl replay -"
            )
    for magic, (words, hint) in _BINARY.items():
        if head.startswith(magic):
            raise QtctlError(f"{where} is {words}", hint=hint)
    if b"\0" in head[:_SNIFF_BYTES]:
        raise QtctlError(
            f"{where} is neither a recording, a file of QEMU's simple backend nor log text",
            hint="qtctl replay --help",
        )
    for pattern, words, hint in _TEXTS[:2]:
        if pattern.match(head):
            raise QtctlError(f"{where} is {words}", hint=hint)


def no_record(head: bytes, where: str) -> QtctlError:
    """Return the error for a text in whose begin no record was found."""
    if known := foreign_text(head):
        return QtctlError(f"{where} is {known[0]}", hint=known[1])
    undeclared = _RECORDS.search(head) or not installed_declarations()
    return QtctlError(
        f"no record in the first {len(head)} bytes of {where}: it is neither a recording, a simple "
        "trace nor log text with events that are known here",
        hint="--events-all FILE, the trace-events-all of the QEMU that wrote it"
        if undeclared
        else "qtctl replay --help",
    )


def foreign_text(head: bytes) -> tuple[str, str] | None:
    """Return what a text is that another program or qtctl printed, and a hint; else None."""
    for pattern, words, hint in _TEXTS:
        if pattern.search(head[:_SNIFF_BYTES]):
            return words, hint
    return None
