"""Installs the completion of a shell into the user's home.

Sources: bash-completion's README (user folder), fish's "Where to put completions", zshcompsys(1).
Checked with bash 5.2, bash-completion 2.11, zsh 5.9 and fish 3.6.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from qtctl.errors import UsageError
from qtctl.folders import absolute, write_whole

Shell: TypeAlias = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")
_BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
"""What loads the files of bash's user folder when they are needed."""
_ZSH_LOADS = "(( $+functions[compdef] )) || { autoload -U compinit && compinit }; source "
_BASH_LOADS = "source "


def script(shell: Shell) -> str:
    """Return the completion script of a shell."""
    return (Path(__file__).parent / "shells" / f"qtctl.{shell}").read_text(encoding="utf-8")


def shell_of(env: Mapping[str, str]) -> Shell:
    """Return the user's shell, by ``$SHELL``.

    Raises:
        UsageError: it is none of those that can complete.
    """
    name = Path(env.get("SHELL", "")).name
    for shell in SHELLS:
        if shell == name:
            return shell
    raise UsageError(
        f"$SHELL is {name!r}: name the shell to complete in",
        hint=f"qtctl completion {'|'.join(SHELLS)} --install",
    )


def install(shell: Shell, env: Mapping[str, str], loader: Path = _BASH_COMPLETION) -> list[Path]:
    """Write a shell's completion where it is loaded from; return the files that changed.

    fish loads it from its folder, and so does bash with the package bash-completion, whose program
    is ``loader``. Otherwise a line that loads it is added to the user's ``.bashrc`` or ``.zshrc``,
    unless it is there.

    Raises:
        UsageError: a file cannot be written.
    """
    home = Path(env.get("HOME") or Path.home())
    data = absolute(env.get("XDG_DATA_HOME"), home / ".local/share")
    config = absolute(env.get("XDG_CONFIG_HOME"), home / ".config")
    bash = absolute(env.get("BASH_COMPLETION_USER_DIR"), data / "bash-completion")
    places: dict[Shell, tuple[Path, Path | None, str]] = {
        "bash": (
            bash / "completions/qtctl",
            None if loader.exists() else home / ".bashrc",
            _BASH_LOADS,
        ),
        "zsh": (
            data / "qtctl/completion.zsh",
            Path(env.get("ZDOTDIR") or home) / ".zshrc",
            _ZSH_LOADS,
        ),
        "fish": (config / "fish/completions/qtctl.fish", None, ""),
    }
    path, startup, loads = places[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, script(shell))
        if startup is None or not _append(startup, loads + shlex.quote(str(path))):
            return [path]
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from error
    return [path, startup]


def _append(path: Path, line: str) -> bool:
    """Append a line to a file unless it has it; return whether it was appended."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        text = b""
    if line.encode() in text:
        return False
    with path.open("ab") as file:
        file.write(b"\n" * (text[-1:] not in (b"", b"\n")) + line.encode() + b"\n")
    return True
