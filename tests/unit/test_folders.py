"""The user's folders, as the XDG variables name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qtctl import folders


@pytest.mark.parametrize(
    ("variable", "found", "usual"),
    [
        ("XDG_CONFIG_HOME", folders.config_folder, ".config"),
        ("XDG_CACHE_HOME", folders.cache_folder, ".cache"),
        ("XDG_STATE_HOME", folders.state_folder, ".local/state"),
    ],
)
def test_a_relative_folder_is_ignored(
    variable: str,
    found: Callable[[], Path],
    usual: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for named in ("here", "./here", "", "~/here"):
        monkeypatch.setenv(variable, named)
        assert found() == Path("/home/me", usual, "qtctl")
    monkeypatch.setenv(variable, "/there")
    assert found() == Path("/there/qtctl")


def test_a_relative_runtime_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    usual = folders.runtime_folder()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "here")
    assert folders.runtime_folder() == usual
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/there")
    assert folders.runtime_folder() == Path("/there")
