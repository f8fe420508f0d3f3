"""Installing completion: where each shell loads it from, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from qtctl.commands.shell_files import SHELLS, Shell, install, script, shell_of
from qtctl.errors import UsageError


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


@pytest.mark.parametrize("shell", SHELLS)
def test_it_is_written_once(shell: Shell, env: dict[str, str], tmp_path: Path) -> None:
    loader = tmp_path / "bash_completion"
    first, *changed = install(shell, env, loader)
    assert first.read_text() == script(shell)
    assert [path.name for path in changed] == {"bash": [".bashrc"], "zsh": [".zshrc"]}.get(
        shell, []
    )
    before = [path.read_bytes() for path in changed]
    assert install(shell, env, loader) == [first]
    assert [path.read_bytes() for path in changed] == before
    assert all(str(first).encode() in text for text in before)


def test_bash_completion_loads_it_without_a_line(env: dict[str, str], tmp_path: Path) -> None:
    loader = tmp_path / "bash_completion"
    loader.touch()
    path = tmp_path / ".local/share/bash-completion/completions/qtctl"
    assert install("bash", env, loader) == [path]


def test_the_line_goes_behind_what_is_there(env: dict[str, str], tmp_path: Path) -> None:
    env |= {"ZDOTDIR": str(tmp_path / "z"), "XDG_DATA_HOME": str(tmp_path / "a b")}
    (tmp_path / "z").mkdir()
    startup = tmp_path / "z/.zshrc"
    startup.write_text("setopt autocd")
    assert install("zsh", env) == [tmp_path / "a b/qtctl/completion.zsh", startup]
    first, second = startup.read_text().splitlines()
    assert first == "setopt autocd"
    assert second.endswith(f"source '{tmp_path}/a b/qtctl/completion.zsh'")


def test_what_cannot_be_written_is_named(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".config").touch()
    with pytest.raises(UsageError, match=r"cannot write .*\.config"):
        install("fish", env)


def test_the_shell_is_the_users() -> None:
    assert shell_of({"SHELL": "/usr/bin/zsh"}) == "zsh"
    for env in ({}, {"SHELL": "/bin/tcsh"}):
        with pytest.raises(UsageError, match="name the shell") as caught:
            shell_of(env)
        assert caught.value.hint == "qtctl completion bash|zsh|fish --install"
