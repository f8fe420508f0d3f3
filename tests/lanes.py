"""Which tests may not run beside each other, and in which order tests start.

``./dev test`` has several workers of pytest-xdist, which take tests from one queue. All tests of a
group go to one worker, one after the other: a group needs something that the machine has once.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

#: One fixture starts all cases at once.
FAULTS = "faults"
#: Only one daemon can serve ``/dev/log``.
SYSLOG = "syslog"
#: Every process writes to one buffer of tracefs, with one set of options.
TRACEFS = "tracefs"
#: A user has one session daemon of LTTng's.
LTTNG = "lttng"
#: A guest that floods its log takes a processor, and so does qtctl behind it.
FLOOD = "flood"
#: A probe is set in the memory of every process that runs the program, and counted in each.
PROBES = "probes"

#: The suite in a fresh system, beside everything else of the field lane: builds in this checkout.
DEBIAN, BUILDS = "debian", "builds"

#: What all runs on this machine share.
_ONCE = (SYSLOG, TRACEFS, LTTNG, PROBES)

#: The group of a module or a test, by the beginning of its node id. Long groups come first.
GROUPS = {
    "tests/integration/test_bad_protocol.py::test_every_fault": FAULTS,
    "tests/field/test_fresh_debian.py": DEBIAN,
    "tests/field/": BUILDS,
    "tests/real/test_clock_real.py::test_no_line_of_a_flood": FLOOD,
    "tests/real/test_flood.py": FLOOD,
    "tests/real/test_guard_real.py": FLOOD,
    "tests/real/test_kills.py": FLOOD,
    "tests/real/test_probe_real.py": FLOOD,
    "tests/real/test_prompt_real.py": FLOOD,
    "tests/real/test_pane_real.py": FLOOD,
    "tests/real/test_record_real.py::test_every_turn": FLOOD,
    "tests/integration/test_flooding.py": FLOOD,
    "tests/real/test_syslog_real.py": SYSLOG,
    "tests/real/test_same_records.py": SYSLOG,
    "tests/real/test_saved_real.py": SYSLOG,
    "tests/real/test_ftrace_real.py": TRACEFS,
    "tests/real/test_kernel_real.py": TRACEFS,
    "tests/real/test_differential.py": TRACEFS,
    "tests/real/test_ust_real.py": LTTNG,
    "tests/integration/test_ust_provider.py": LTTNG,
    "tests/integration/test_lttng_folder.py": LTTNG,
    "tests/unit/test_lttng_session.py": LTTNG,
    "tests/real/test_dtrace_real.py": PROBES,
    "tests/integration/test_dtrace_provider.py": PROBES,
}
#: The group of a test on a real guest, by the backend among its parameters.
_PARAMETERS = {
    "ftrace": TRACEFS,
    "syslog": SYSLOG,
    "rsyslog": SYSLOG,
    "journald": SYSLOG,
    "ust": LTTNG,
    "dtrace": PROBES,
}
#: The rest starts in this order: a long test that starts last keeps the whole run waiting.
_FOLDERS = ("real", "integration", "conformance", "fake_qmp", "unit")


def group_of(nodeid: str) -> str | None:
    """Return the group of a test, or nothing when it can run beside any other."""
    group = next((group for begin, group in GROUPS.items() if nodeid.startswith(begin)), None)
    if group in (None, FLOOD) and nodeid.startswith("tests/real/"):
        found = re.search(r"\[(.*)\]", nodeid)
        for part in re.split(r"[- ]", found[1]) if found else ():
            group = _PARAMETERS.get(part, group)
    return group


@contextlib.contextmanager
def alone(nodeid: str) -> Iterator[None]:
    """Hold what the test's group needs of the machine: another run of the suite may want it."""
    with contextlib.ExitStack() as stack:
        if (group := group_of(nodeid)) in _ONCE:
            with contextlib.suppress(OSError):  # a file of another user: then without
                path = Path(tempfile.gettempdir()) / f"qtctl-tests-{group}.lock"
                lock = stack.enter_context(path.open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def turn_of(nodeid: str) -> int:
    """Return when a test has its turn: the lowest first."""
    groups = list(dict.fromkeys(GROUPS.values()))
    if (group := group_of(nodeid)) is not None:
        return groups.index(group)
    folder = nodeid.split("/")[1] if nodeid.count("/") > 1 else ""
    return len(groups) + (_FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS))


def scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Return a scheduler of pytest-xdist that keeps groups together.

    The groups are found by node ids. The ``loadgroup`` scheduler looks for marks in what
    pytest-xdist 3.8 adds to node ids, and pytest 9.2 does not let it add that.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid) or nodeid

    config.option.loadscopereorder = False
    return Lanes(config, log)
