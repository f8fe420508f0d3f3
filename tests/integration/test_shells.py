"""Completion in real shells: Tab pressed in bash and zsh on a terminal, and what fish offers."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, eventually

LOAD = {
    "bash": "source $(qtctl completion bash --install)",
    "zsh": "autoload -U compinit; compinit -u -D; qtctl completion zsh --install; "
    "source $HOME/.zshrc",
}
COMMAND = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}

#: Completes as the real one; anything else it is asked to do, it only notes.
PROGRAM = """#!{python}
import json, os, sys
if sys.argv[1] == "completion":
    os.execv(sys.executable, [sys.executable, "-m", "qtctl", *sys.argv[1:]])
with open({notes!r}, "a") as notes:
    notes.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def home(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> Path:
    """Return a home with a ``qtctl`` that notes its arguments, and the events of a fake guest."""
    qtctl("-t", fake.address, "--events-all", str(declared), "list").said(0)
    qtctl("sets", "--save", "my-set", "virtio_*").said(0)
    program = qtctl.home / "bin" / "qtctl"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, notes=str(qtctl.home / "notes")))
    program.chmod(0o755)
    (qtctl.home / "notes").touch()
    return qtctl.home


def environment(qtctl: Qtctl) -> dict[str, str]:
    return qtctl.environment(
        {
            "PATH": f"{qtctl.home / 'bin'}:{os.environ['PATH']}",
            "TERM": "xterm",
            "PYTHONWARNINGS": None,
            "PS1": "> ",
        }
    )


class Shell:
    """A shell on a terminal, which is read but not looked at."""

    def __init__(self, name: str, qtctl: Qtctl) -> None:
        self._notes = qtctl.home / "notes"
        self._pid, self._fd = pty.fork()
        if not self._pid:
            os.chdir(qtctl.home)
            os.execvpe(name, COMMAND[name], environment(qtctl))
        os.set_blocking(self._fd, False)
        self.calls(f"{LOAD[name]}; qtctl ready\n")

    def calls(self, typed: str) -> list[str]:
        """Type, and return the arguments that qtctl is then called with."""
        before = len(self._notes.read_text().splitlines())
        os.write(self._fd, typed.encode())
        eventually(lambda: self._noted(before), f"a call by {typed!r}")
        found: list[str] = json.loads(self._notes.read_text().splitlines()[before])
        return found

    def _noted(self, before: int) -> bool:
        with contextlib.suppress(BlockingIOError, OSError):
            os.read(self._fd, 65536)  # or the shell would stop for want of room
        return self._notes.read_text().count("\n") > before

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, qtctl: Qtctl, home: Path) -> Iterator[Shell]:
    needs.program(request.param, request.param)
    made = Shell(request.param, qtctl)
    yield made
    made.close()


def test_tab_completes_in_a_real_shell(shell: Shell, home: Path) -> None:
    (home / "some trace").touch()
    expected = {
        "qtctl sta\t": ["status"],
        "qtctl list --stat\tena\t": ["list", "--state", "enabled"],
        "qtctl list --state=una\t": ["list", "--state=unavailable"],
        "qtctl tail virtio_blk_handle_r\t": ["tail", "virtio_blk_handle_read"],
        "qtctl tail usb_\x15qtctl tail 'virtio_blk_req*' virtio_scsi_cmd_resp\t": [
            *("tail", "virtio_blk_req*", "virtio_scsi_cmd_resp")
        ],
        "qtctl enable @my-\t": ["enable", "@my-set"],
        "qtctl enable x --except @virtio-ne\t": ["enable", "x", "--except", "@virtio-net"],
        "qtctl tail -- a -virtio_blk_handle_r\t": ["tail", "--", "a", "-virtio_blk_handle_read"],
        "qtctl replay some\t": ["replay", "some trace"],
        "qtctl -t ./some\t ps": ["-t", "./some trace", "ps"],
        "qtctl top 'virtio_blk_*' --by nsec\t": ["top", "virtio_blk_*", "--by", "nsectors"],
        "qtctl count virtio_blk_handle_read --hist=nsec\t": [
            *("count", "virtio_blk_handle_read", "--hist=nsectors")
        ],
        "qtctl latency a virtio_blk_handle_read --key vdev,re\t": [
            *("latency", "a", "virtio_blk_handle_read", "--key", "vdev,req")
        ],
        "qtctl tail 'virtio_blk_*' --where nsec\t": ["tail", "virtio_blk_*", "--where", "nsectors"],
        "qtctl tail 'virtio_blk_*' --where 'sector == 0 and nsec\t": [
            *("tail", "virtio_blk_*", "--where", "sector == 0 and nsectors")
        ],
        "qtctl tail 'virtio_blk_*' --where='sector == 0 and nsec\t": [
            *("tail", "virtio_blk_*", "--where=sector == 0 and nsectors")
        ],
        "qtctl info 'virtio_blk_handle_r\t": ["info", "virtio_blk_handle_read"],
        "true && qtctl inf\t": ["info"],
    }
    for typed, called in expected.items():
        found = shell.calls(f"{typed}\n")
        if typed.startswith("true"):
            found = shell.calls("") if found[0] == "-q" else found
        assert found == called, typed


def test_fish_offers_with_descriptions(qtctl: Qtctl, home: Path) -> None:
    program = needs.program("fish", "fish")
    (home / "some trace").touch()

    def offered(line: str) -> dict[str, str]:
        ran = subprocess.run(
            [
                program,
                "--no-config",
                "-c",
                "qtctl completion fish | source; complete -C $argv",
                line,
            ],
            env=environment(qtctl),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert not ran.stderr
        lines = (one.partition("\t") for one in ran.stdout.splitlines())
        return {text: about for text, _, about in lines}

    assert offered("qtctl sta") == {"status": "what is on, who has leases, where output goes"}
    assert set(offered("qtctl tail virtio_blk_handle_")) >= {
        "virtio_blk_handle_read",
        "virtio_blk_handle_write",
    }
    assert offered("qtctl enable @my")["@my-set"] == ""
    assert "block requests" in offered("qtctl enable @virtio-bl")["@virtio-blk"]
    assert set(offered("qtctl list --state una")) == {"unavailable"}
    assert set(offered("qtctl list --state=una")) == {"--state=unavailable"}
    assert "stop after N records" in offered("qtctl tail --max")["--max-events"]
    assert any("some" in one for one in offered("qtctl replay so"))
    found = offered("qtctl tail virtio_blk_handle_read --where nse")
    assert found == {"nsectors": "size_t, in 1 event"}
    found = offered("qtctl tail virtio_blk_handle_read --where 'sector == 0 and nse")
    assert set(found) == {"sector == 0 and nsectors"}
    assert "tid" in offered("qtctl count virtio_blk_handle_read --by ")
    assert "time_ns" not in offered("qtctl count virtio_blk_handle_read --by ")
