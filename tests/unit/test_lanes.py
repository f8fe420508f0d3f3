"""Tests that need the same thing of the machine are in one group."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest

from tests import lanes

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/unit/test_text.py::test_it[syslog]", None),
        ("tests/real/test_syslog_real.py::test_it", lanes.SYSLOG),
        ("tests/real/test_record_real.py::test_it", None),
        ("tests/real/test_record_real.py::test_it[rsyslog]", lanes.SYSLOG),
        ("tests/real/test_saved_real.py::test_it[journald short]", lanes.SYSLOG),
        ("tests/real/test_guard_real.py::test_it[path]", lanes.FLOOD),
        ("tests/real/test_guard_real.py::test_it[built-ftrace-5000]", lanes.TRACEFS),
    ],
)
def test_the_group_is_found_by_the_name(nodeid: str, group: str | None) -> None:
    assert lanes.group_of(nodeid) == group


@pytest.mark.parametrize("begin", lanes.GROUPS)
def test_what_is_in_a_group_exists(begin: str) -> None:
    path, _, function = begin.partition("::")
    place = TOP / path
    assert place.is_dir() or f"def {function}" in place.read_text()


def test_two_runs_take_turns_with_what_the_machine_has_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with lanes.alone("tests/real/test_syslog_real.py::test_it"), lanes.alone("tests/unit/test_a"):
        [path] = tmp_path.iterdir()
        with path.open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_groups_start_first_and_unit_tests_last() -> None:
    order = [
        "tests/integration/test_bad_protocol.py::test_every_fault",
        "tests/real/test_syslog_real.py::test_it",
        "tests/real/test_core_real.py::test_it",
        "tests/integration/test_top.py::test_it",
        "tests/unit/test_text.py::test_it",
    ]
    mixed = [order[at] for at in (3, 1, 4, 0, 2)]
    assert sorted(mixed, key=lanes.turn_of) == order
