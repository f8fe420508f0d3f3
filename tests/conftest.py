"""What the whole test run has in common."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import lanes
from tests.needs import TRACEFS
from tests.running import Qtctl

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

# How long an example takes says more of the machine's load than of qtctl.
settings.register_profile("qtctl", deadline=None)
settings.load_profile("qtctl")

#: What people set in their environment, and tests must not depend on.
_SETTINGS = ("QTCTL_TARGET", "QMP_SOCKET", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
#: Fixtures that run qtctl or the fake as processes.
_STARTERS = {"run", "qtctl", "fake", "make_fake"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that take longest, and mark those that start processes."""
    items.sort(key=lambda item: lanes.turn_of(item.nodeid))
    for item in items:
        if isinstance(item, pytest.Function) and _STARTERS & {*item.fixturenames}:
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait, before the time of a test runs, until no other run of the suite is in its way."""
    with lanes.alone(item.nodeid):
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Keep tests apart that cannot run beside each other."""
    return lanes.scheduler(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Forget what the caller set for qtctl and for its terminal; mount tracefs for this run.

    It is mounted where that takes no more than being root.
    """
    for name in _SETTINGS:
        os.environ.pop(name, None)
    os.environ["QTCTL_CONFIG"] = ""  # nor the configuration of who runs the tests
    if hasattr(config, "workerinput"):  # in a worker of pytest-xdist: its parent does it
        return
    if os.geteuid() != 0 or not TRACEFS.is_dir() or (TRACEFS / "trace_marker").exists():
        return
    mount = ["mount", "-t", "tracefs", "nodev", str(TRACEFS)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        config.add_cleanup(_unmount_tracefs)


def _unmount_tracefs() -> None:
    subprocess.run(["umount", str(TRACEFS)], capture_output=True, check=False)


@pytest.fixture
def qtctl(tmp_path: Path) -> Iterator[Qtctl]:
    """Run qtctl with folders of its own; see :class:`tests.running.Qtctl`."""
    with Qtctl(tmp_path / "home") as runner:
        yield runner


@pytest.fixture
def run(qtctl: Qtctl) -> Qtctl:
    """Run qtctl, for tests in which ``qtctl`` is the package."""
    return qtctl
