"""The configuration file: what it may hold, whose it may be, and errors with their lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qtctl import config
from qtctl.config import Settings
from qtctl.errors import UsageError

FILE = Path("config.toml")
TEXT = """\
# mine
[defaults]
color = "never"   # everywhere

[defaults.tail]
time = "delta"

[aliases]
blk = "tail @virtio-blk"

[sets]
disk = [
    "virtio_blk_*",  # requests
    "-virtio_blk_data*",
]
[targets]
"lab" = "10.0.0.2:4444"
"""


def wrong(text: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        Settings(FILE, text)
    return raised.value


def test_keys_have_their_lines() -> None:
    for text in (TEXT, TEXT.replace("\n", "\r\n")):
        found = dict(Settings(FILE, text).lines())
        assert found["defaults", "color"] == 3
        assert found["defaults", "tail"] == 5
        assert found["defaults", "tail", "time"] == 6
        assert found["aliases", "blk"] == 9
        assert found["sets",] == 11
        assert found["sets", "disk"] == 12
        assert found["targets", "lab"] == 17


def test_defaults_of_a_verb_come_before_those_of_all() -> None:
    both = Settings(FILE, '[defaults]\ntime = "rel"\nown = true\n[defaults.tail]\ntime = "delta"')
    assert both.defaults("tail") == {
        "time": ("delta", ("defaults", "tail", "time")),
        "own": (True, ("defaults", "own")),
    }
    assert both.defaults("wait")["time"] == ("rel", ("defaults", "time"))


@pytest.mark.parametrize(
    ("text", "line", "part", "hint"),
    [
        ("[defaults]\ntime = rel", 2, "this is not TOML: Invalid value", ""),
        ("[defaults", 1, "this is not TOML", ""),
        ("[aliases]\na = '''\n", 2, "this is not TOML", ""),
        ("\n[colours]", 2, "no setting 'colours'", "colors"),
        ("\n\ndefaults = 1", 3, "'defaults' is a table", ""),
        ("[defaults.tial]", 1, "no verb 'tial'", "tail"),
        ("[defaults]\ntime = 1979-05-27", 2, "'time' is to be a value of an option", ""),
        ("[defaults]\ntail = {where = {a = 1}}", 2, "'where' is to be", ""),
        ("[defaults]\nkernel = [[1]]", 2, "'kernel' is to be", ""),
        ("[aliases]\nblk = ['tail']", 2, "'blk' is to be a line of qtctl", ""),
        ("[aliases]\nblk = 'tial x'", 2, "begins with a verb, and 'tial' is none", "tail"),
        ("[aliases]\nblk = ''", 2, "begins with a verb, and '' is none", ""),
        ("[aliases]\ntail = 'tail x'", 2, "'tail' is a verb", ""),
        ("[aliases]\n'a b' = 'tail x'", 2, "'a b' cannot be typed", ""),
        ("[aliases]\n-x = 'tail x'", 2, "'-x' cannot be typed", ""),
        ("[targets]\n4711 = 'unix:/x'", 2, "'4711' cannot name a target", ""),
        ("[targets]\n'a/b' = 'unix:/x'", 2, "'a/b' cannot name a target", ""),
        ("[sets]\nx = 'virtio_*'", 2, "'x' is to be a list of patterns", ""),
        ("[sets]\nx = [1]", 2, "'x' is to be a list of patterns", ""),
    ],
)
def test_an_error_names_the_file_and_the_line(text: str, line: int, part: str, hint: str) -> None:
    error = wrong(text)
    assert error.message.startswith(f"config.toml:{line}: "), error.message
    assert part in error.message
    assert error.hint == hint


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of the user's file."""
    monkeypatch.delenv("QTCTL_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "qtctl" / "config.toml"
    path.parent.mkdir()
    return path


def test_no_file_is_no_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.read_file().path is None
    monkeypatch.setenv("XDG_CONFIG_HOME", str(file / "not" / "a folder"))
    assert config.read_file().path is None
    monkeypatch.setenv("QTCTL_CONFIG", str(file))
    with pytest.raises(UsageError, match=r"cannot read .*config.toml: No such file"):
        config.read_file()


def test_a_variable_names_another_file_or_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("nonsense")
    with pytest.raises(UsageError, match=r"config.toml:1: this is not TOML"):
        config.read_file()
    for none in ("", "/dev/null"):
        monkeypatch.setenv("QTCTL_CONFIG", none)
        assert config.read_file().tables["aliases"] == {}


def test_the_api_and_other_tests_read_no_file(file: Path) -> None:
    file.write_text("nonsense")
    assert config.settings().path is None


@pytest.mark.parametrize(
    ("mode", "refused"), [(0o600, False), (0o644, False), (0o646, True), (0o602, True)]
)
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int, refused: bool) -> None:
    file.write_text(TEXT)
    file.chmod(mode)
    if refused:
        with pytest.raises(UsageError) as raised:
            config.read_file()
        assert raised.value.hint == f"chmod go-w {file}"
    else:
        assert config.read_file().tables["sets"]


def test_whose_file_it_may_be(file: Path) -> None:
    def check(uid: int, gid: int, mode: int) -> str:
        state = os.stat_result((0o100000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
        try:
            config._check_owner(file, state)
        except UsageError as error:
            return error.message
        return ""

    own = os.geteuid()
    assert check(own, own, 0o664) == ""
    assert "may be written by others" in check(own, own + 1, 0o664)
    assert check(0, 0, 0o644) == ""
    assert "belongs to user" in check(own + 1, own, 0o600)
