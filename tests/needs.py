"""What a test needs of the machine: missing is a skip with its reason, and in CI a failure.

CI installs what Debian packages, so there only what the kernel or the machine forbids may skip,
and what Debian does not package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TRACEFS = Path("/sys/kernel/tracing")


def packaged(missing: str, package: str) -> None:
    """Skip for want of something that a Debian package has; fail where CI should have it."""
    reason = f"{missing} is missing: apt install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """Return where a program is."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        packaged(name, package)
    assert found is not None
    return found


def lttng() -> None:
    """Need LTTng's tools and daemons, and babeltrace2."""
    for name in ("lttng", "lttng-sessiond"):
        program(name, "lttng-tools")
    program("babeltrace2", "babeltrace2")


def tracefs() -> None:
    """Skip where tracefs is not mounted; as root the test run mounts it (see ``conftest``)."""
    if not (TRACEFS / "trace_marker").exists():
        pytest.skip("tracefs is not mounted, and could not be")


def containers() -> None:
    """Skip where a process gets no mount namespace of its own: in a chroot, for one."""
    words = [program("unshare", "util-linux"), "--mount", "--net", "true"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no container can be made: {tried.stderr.strip()}")


def trace_processor() -> str:
    """Return where Perfetto's trace processor is; Debian has no package of it."""
    found = os.environ.get("QTCTL_TEST_TRACE_PROCESSOR") or shutil.which("trace_processor_shell")
    if found is None:
        pytest.skip("trace_processor_shell is neither on PATH nor in $QTCTL_TEST_TRACE_PROCESSOR")
    return found
