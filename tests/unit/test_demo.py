"""The demo connects to its guest once that listens, not when the socket's file is there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qtctl.commands.demo import listens


def test_a_bound_socket_does_not_listen_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("qmp.sock")  # the whole path may be too long for a socket
    assert not listens(path)
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.bind(str(path))
        assert not listens(path)
        monitor.listen(1)
        assert listens(path)
