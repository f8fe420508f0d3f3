"""The configuration file as processes read it."""

from __future__ import annotations

from tests.running import Qtctl


def test_a_file_is_read_by_the_command_line(qtctl: Qtctl) -> None:
    path = qtctl.home / ".config" / "qtctl" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[aliases]\nmine = 'config aliases'\n")
    ran = qtctl("mine")
    assert (ran.code, ran.out) == (0, "aliases.mine\tconfig aliases\tconfig.toml:2\n")
    path.write_text("[aliases]\nmine = 1\n")
    qtctl("ps").said(2, f"{path}:2: 'mine' is to be a line of qtctl")
    assert qtctl("ps", env={"QTCTL_CONFIG": ""}).code == 0
