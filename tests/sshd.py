"""A real sshd (of Debian's openssh-server) with keys of its own, and an ssh that knows it.

It serves the user who runs the tests, with a ``qtctl`` and folders apart from those here, as
another host would have.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.needs import program
from tests.running import TOP, eventually

NAME = "node7"
"""What the user's ssh configuration calls the host."""


class Sshd:
    """Runs while it is entered. ``env`` is what the user's ssh needs in the environment.

    ``before`` is a command that runs sshd and ssh's server side (``ip netns exec``, say);
    ``address`` is where it listens. ``qtctl`` is the script that the host calls so.
    """

    def __init__(
        self, folder: Path, *, address: str = "127.0.0.1", before: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.address = address
        self.home = folder / "far"
        self.bin = folder / "far-bin"
        self.qtctl = self.bin / "qtctl"
        self._near = folder / "near-bin"
        self._before = before
        for made in (self.home, self.bin, self._near):
            made.mkdir(mode=0o700)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = int(server.getsockname()[1])
        self.has(f'exec {shlex.quote(sys.executable)} -m qtctl "$@"')
        ssh = program("ssh", "openssh-client")
        script(self._near / "ssh", f'exec {ssh} -F {folder}/ssh_config "$@"')
        self.configure()

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of a qtctl whose user has this ssh."""
        return {"PATH": f"{self._near}:{os.environ.get('PATH', os.defpath)}"}

    def has(self, text: str) -> None:
        """Let ``qtctl`` on the host be a shell script."""
        script(self.qtctl, text)

    def configure(self, *lines: str, known: bool = True, key: str = "user_key") -> None:
        """Write the user's ssh configuration; ``known``: the host's key is known."""
        hosts = self.folder / "known_hosts"
        if known and (self.folder / "host_key.pub").exists():
            public = (self.folder / "host_key.pub").read_text()
            hosts.write_text(f"[{self.address}]:{self.port} {public}")
        else:
            hosts.unlink(missing_ok=True)
        text = [
            *lines,
            f"Host {NAME}",
            *(f"HostName {self.address}", f"Port {self.port}", f"IdentityFile {self.folder}/{key}"),
            *("IdentitiesOnly yes", "IdentityAgent none", f"UserKnownHostsFile {hosts}"),
            *("GlobalKnownHostsFile /dev/null", "StrictHostKeyChecking ask"),
        ]
        (self.folder / "ssh_config").write_text("\n".join(text) + "\n")

    def __enter__(self) -> Self:
        keygen = program("ssh-keygen", "openssh-client")
        for name in ("host_key", "user_key", "other_key"):
            words = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(words, check=True)
        (self.folder / "user_key.pub").rename(self.folder / "authorized_keys")
        self.configure()
        if os.geteuid() == 0:  # sshd's own folder, which a service would make
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        names = ("STATE_HOME", "RUNTIME_DIR", "CACHE_HOME", "CONFIG_HOME")
        for name in names:
            (self.home / name).mkdir(mode=0o700)
        settings = {
            "PATH": f"{self.bin}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(TOP),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "error",
            **{f"XDG_{name}": str(self.home / name) for name in names},
        }
        config = [
            *(f"ListenAddress {self.address}:{self.port}", f"HostKey {self.folder}/host_key"),
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            *("PidFile none", "UsePAM no", "StrictModes no", "PasswordAuthentication no"),
            *("KbdInteractiveAuthentication no", f"AllowUsers {getpass.getuser()}"),
            f"SetEnv {' '.join(f'{name}={value}' for name, value in settings.items())}",
        ]
        (self.folder / "sshd_config").write_text("\n".join(config) + "\n")
        words = [program("sshd", "openssh-server"), "-D", "-e", "-f", f"{self.folder}/sshd_config"]
        with (self.folder / "sshd.log").open("wb") as log:
            self._server = subprocess.Popen([*self._before, *words], stdout=log, stderr=log)
        eventually(self._listens, f"sshd listens: {self.folder}/sshd.log")
        return self

    def _listens(self) -> bool:
        log = (self.folder / "sshd.log").read_text(errors="replace")
        assert self._server.poll() is None, log
        return "Server listening" in log

    def sessions(self) -> list[int]:
        """Return the pids of the processes that serve logins now."""
        path = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pid in self.sessions():
            subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
        self._server.kill()
        self._server.wait()


def script(path: Path, text: str) -> None:
    """Write a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
