"""What the whole test run has in common."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.needs import TRACEFS
from tests.running import Qtctl

# How long an example takes says more of the machine's load than of qtctl.
settings.register_profile("qtctl", deadline=None)
settings.load_profile("qtctl")


@pytest.fixture(scope="session", autouse=True)
def mounted_tracefs() -> Iterator[None]:
    """Mount tracefs where that takes no more than being root, and leave the machine as it was."""
    mount = ["mount", "-t", "tracefs", "nodev", str(TRACEFS)]
    mounted = (
        os.geteuid() == 0
        and TRACEFS.is_dir()
        and not (TRACEFS / "trace_marker").exists()
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    yield
    if mounted:
        subprocess.run(["umount", str(TRACEFS)], capture_output=True, check=False)


@pytest.fixture
def qtctl(tmp_path: Path) -> Iterator[Qtctl]:
    """Run qtctl with folders of its own; see :class:`tests.running.Qtctl`."""
    with Qtctl(tmp_path / "home") as runner:
        yield runner
