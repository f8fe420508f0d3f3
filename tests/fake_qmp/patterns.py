"""Event patterns as QEMU matches them."""

from __future__ import annotations


def is_pattern(name: str) -> bool:
    """Tell whether QEMU takes a name for a pattern: only a star makes it one."""
    return "*" in name


def matches(pattern: str, name: str) -> bool:
    """Match as glib does: ``*`` is any run, ``?`` one character, all else literal."""
    at = mark = 0
    star = resume = -1
    for _ in range((len(name) + 1) * (len(pattern) + 1)):
        if at == len(name):
            return not pattern[mark:].strip("*")
        if mark < len(pattern) and pattern[mark] == "*":
            star, resume = mark, at
            mark += 1
        elif mark < len(pattern) and pattern[mark] in ("?", name[at]):
            mark += 1
            at += 1
        elif star >= 0:
            # Let the last star swallow one more character and try again from there.
            resume += 1
            at, mark = resume, star + 1
        else:
            return False
    return False
