"""Keeps the field lane from starting itself."""

from __future__ import annotations

import os

import pytest

_RUNS = "QTCTL_TEST_FIELD"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Mark the environment: tests here start pytest for other lanes, in other places."""
    if hasattr(session.config, "workerinput"):  # a worker of pytest-xdist: of this very run
        return
    if _RUNS in os.environ:
        raise pytest.UsageError("a test of the field lane must not start the field lane")
    os.environ[_RUNS] = "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take the mark away."""
    if not hasattr(session.config, "workerinput"):
        os.environ.pop(_RUNS, None)
