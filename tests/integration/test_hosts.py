"""Guests of another host, over a real sshd: verbs that end at once, and what may go wrong."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Ran, eventually
from tests.sshd import NAME, Sshd

EVENT = "virtio_blk_handle_read"


@pytest.fixture
def far(folder: Path) -> Iterator[Sshd]:
    """Run another host."""
    (folder / "ssh").mkdir()
    with Sshd(folder / "ssh") as server:
        yield server


def target(fake: FakeProcess, host: str = NAME) -> str:
    """Return the TARGET of a fake on another host."""
    return f"ssh://{host}/{fake.address}"


def asked(qtctl: Qtctl, far: Sshd, *words: str) -> Ran:
    """Run a verb with the user's ssh."""
    return qtctl(*words, env=far.env, limit=60)


def test_one_shot_verbs_run_there(qtctl: Qtctl, far: Sshd, fake: FakeProcess) -> None:
    at = ("-t", target(fake))
    ran = asked(qtctl, far, *at, "enable", EVENT).said(0)
    assert ran.out == "1 matched, 1 changed, 0 already enabled, 0 unavailable\n"
    assert fake.tell()["enabled"] == [EVENT]
    assert list((far.home / "STATE_HOME").rglob("*"))
    assert not list(qtctl.state.rglob("leases/*"))
    shown = json.loads(asked(qtctl, far, *at, "status", "--json").said(0).out)
    assert shown["events"]["enabled"] == [EVENT]
    assert asked(qtctl, far, *at, "restore").said(0).out == "1 put back\n"
    assert fake.tell()["enabled"] == []
    ran = asked(qtctl, far, *at, "list", "nosuch*")
    ran.said(3, f"qtctl: {NAME}: no event", "nosuch")
    ran = asked(qtctl, far, "-t", f"ssh://{NAME}/nosuch", "list", "--json")
    ran.said(4, f"qtctl: {NAME}: no running guest is 'nosuch'", f"try: on {NAME}: qtctl ps")
    assert json.loads(ran.out)["exit_code"] == 4
    ran = asked(qtctl, far, *at, "list", "--wrong").said(2, "unrecognized arguments: --wrong")


def test_several_hosts_at_once(qtctl: Qtctl, far: Sshd, fake: FakeProcess) -> None:
    targets = ("-t", fake.address, "-t", target(fake), "-t", "ssh://127.0.0.1:9/vm1")
    ran = asked(qtctl, far, *targets, "list", EVENT, "--json")
    ran.said(4, "cannot reach 127.0.0.1 by ssh")
    here, there, nowhere = json.loads(ran.out)["guests"]
    assert there.pop("guest") == target(fake)
    assert here.pop("guest") != target(fake)
    assert here == there
    assert nowhere["type"] == "error"


def test_an_alias_and_a_configured_target_are_of_this_user(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[targets]\ndisk = "{target(fake)}"\n[aliases]\nshow = "list {EVENT}"\n')
    env = {**far.env, "QTCTL_CONFIG": str(config)}
    ran = qtctl("-t", "disk", "show", env=env, limit=60).said(0)
    assert EVENT in ran.out
    env["QTCTL_TARGET"] = target(fake)
    assert qtctl("show", env=env, limit=60).said(0).out == ran.out


def test_bytes_of_another_host_are_escaped(qtctl: Qtctl, far: Sshd) -> None:
    far.has(r"""printf 'no \033]0;title\007 tool\n' >&2; exit 3""")
    ran = asked(qtctl, far, "-t", f"ssh://{NAME}/vm1", "list")
    ran.said(4, r"could not be started, and ended with 3: no \x1b]0;title\x07 tool")


def test_what_a_login_shell_prints_is_skipped(qtctl: Qtctl, far: Sshd, fake: FakeProcess) -> None:
    before = far.qtctl.read_text().partition("\n")[2]
    far.has(f"echo Welcome; echo 'of all' >&2; {before}")
    ran = asked(qtctl, far, "-t", target(fake), "list", EVENT).said(0)
    assert "elcome" not in ran.out
    assert ran.err == ""


@pytest.mark.parametrize("case", ["none", "old", "another", "key", "login", "port", "name"])
def test_each_reason_is_told(qtctl: Qtctl, far: Sshd, fake: FakeProcess, case: str) -> None:
    to, parts = target(fake), ["scp dist/qtctl-", "pipx install --force ./qtctl-"]
    if case == "none":
        far.qtctl.unlink()
        parts += [f"{NAME} has no qtctl in its PATH", "not found"]
    elif case == "old":
        far.has("""echo "qtctl: there is no verb 'serve'" >&2; exit 2""")
        parts += [f"the qtctl of {NAME} is older than", "there is no verb 'serve'"]
    elif case == "another":
        old = "import qtctl.session.link as link; link.PROTOCOL = 0; import qtctl.version; "
        code = f"{old}from qtctl.cli import main; main(['serve'])"
        far.has(f'exec {__import__("sys").executable} -c "{code}"')
        parts += [f"{NAME} has qtctl 0", "does not speak with the"]
    elif case == "key":
        far.configure(known=False)
        parts = ["Host key verification failed", f"try: ssh {NAME} true"]
    elif case == "login":
        far.configure(key="other_key")
        parts = ["may ask nothing here", "Permission denied", f"try: ssh {NAME} true"]
    elif case == "port":
        to = "ssh://127.0.0.1:9/vm1"
        parts = ["Connection refused", "try: ssh -p 9 127.0.0.1 true"]
    else:
        to = "ssh://no.such.host.invalid/vm1"
        parts = ["cannot reach no.such.host.invalid", "try: ssh no.such.host.invalid true"]
    asked(qtctl, far, "-t", to, "list").said(4, *parts)
    assert fake.tell()["enabled"] == []


def test_no_ssh_and_wrong_targets(qtctl: Qtctl, tmp_path: Path) -> None:
    ran = qtctl("-t", "ssh://h/vm1", "list", env={"PATH": str(tmp_path)})
    ran.said(4, "there is no ssh here", "apt install openssh-client")
    for wrong in ("ssh://", "ssh://h", "ssh://h/", "ssh:///vm1", "ssh://a b/vm1", "ssh://h:0/vm1"):
        qtctl("-t", wrong, "list").said(2, wrong)
    for option in ("ssh://-oProxyCommand=x/vm1", "ssh://-a@h/vm1"):
        qtctl("-t", option, "list").said(2, "begins with '-'")
    qtctl("-t", "ssh://h/vm1", "share").said(2, "cannot be reached", "ssh h -t qtctl -t vm1 ...")
    qtctl("-t", "ssh://h/vm1", "enable", "--file", "x").said(2, "--file names a file of this host")


def test_ctrl_c_ends_the_other_end(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess, tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    before = far.qtctl.read_text().partition("\n")[2].strip().replace("exec ", "")
    far.has(f"{before}; echo $? >{ended}")
    fake.tell(faults=["no-greeting"])
    running = qtctl.start("-t", target(fake), "list", env=far.env)
    eventually(lambda: far.sessions(), "ssh is there")
    eventually(lambda: "serve" in _children(far), "qtctl runs there")
    running.signal(signal.SIGINT)
    assert running.finish(60).code == 130
    eventually(lambda: ended.exists(), "the other qtctl ended")


def _children(far: Sshd) -> str:
    """Return the command lines below the server."""
    found, todo = [], far.sessions()
    while todo:
        pid = todo.pop()
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_text())
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            continue
    return " ".join(found)
