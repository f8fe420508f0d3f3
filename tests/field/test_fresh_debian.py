"""``./dev demo`` and ``./dev test`` of HEAD in a fresh Debian 12, as root with Debian's own Python.

debootstrap makes the system once, in the cache folder (``$QTCTL_FIELD_DIR``, by default
``~/.cache/qtctl-field``); each run works on a copy of it, with packages kept from earlier runs.
``$QTCTL_FIELD_PYTEST`` holds arguments for pytest in there, say
``QTCTL_FIELD_PYTEST='tests/unit -x'``. What is not committed is not tested.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.running import TOP, eventually

MIRROR = os.environ.get("QTCTL_DEBIAN_MIRROR", "http://deb.debian.org/debian")
ARGUMENTS = shlex.split(os.environ.get("QTCTL_FIELD_PYTEST", ""))
_BOOTSTRAP_SECONDS = 600
_DEMO_SECONDS = 1800
_SUITE_SECONDS = 3600

#: How this machine reaches packages; a fresh system gets the same, below its own root.
_CONFIGURATION = (
    "/etc/resolv.conf",
    "/etc/pip.conf",
    "/etc/xdg/pip",
    "/root/.config/pip",
    "/usr/local/share/ca-certificates",
)
_VARIABLES = re.compile(r"(?i:.*_proxy)|PIP_.*|CI|TERM")
#: Packages that earlier runs have fetched, by where they lie in the system.
_KEPT = {"apt": "var/cache/apt/archives", "pip": "root/.cache/pip"}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kvm")

# $1 is the root, $2 the folder of kept packages; the rest runs inside. The mounts end with the
# namespace. tracefs is missing on purpose: the tests mount it.
_ENTER = f"""
set -e
root=$1 kept=$2
shift 2
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
[ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
for device in {" ".join(_DEVICES)}; do
    [ -e "/dev/$device" ] || continue
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for pair in {" ".join(f"{name}={place}" for name, place in _KEPT.items())}; do
    mkdir -p "$kept/${{pair%%=*}}" "$root/${{pair#*=}}"
    mount --bind "$kept/${{pair%%=*}}" "$root/${{pair#*=}}"
done
exec chroot "$root" "$@"
"""

#: Builds the package, and uses what it installed, away from the checkout.
_PACKAGE = """
set -e
export DEBIAN_FRONTEND=noninteractive
./dev deb /root/deb
apt-get install -y -q --no-install-recommends lintian man-db >/dev/null
lintian --allow-root --fail-on error,warning /root/deb/*.changes
cd /
apt-get install -y -q --no-install-recommends /root/deb/qtctl_*.deb qemu-system-x86
qtctl --version
qtctl ps
qtctl doctor | grep 'decoding runs compiled'
qtctl demo --max-events 5 | grep -c virtio_ | grep -x 5
man qtctl | grep -w tail
man -w qtctl-tail
. /usr/share/bash-completion/completions/qtctl
complete -p qtctl
test -e /usr/share/zsh/vendor-completions/_qtctl
test -e /usr/share/fish/vendor_completions.d/qtctl.fish
apt-get purge -y -q qtctl
find /etc /usr /var/lib -name '*qtctl*' >/root/left
cat /root/left
test ! -s /root/left
echo all done
"""


@dataclass(frozen=True, slots=True)
class System:
    """A Debian in a folder, with qtctl's sources in ``/root/qtctl``."""

    root: Path
    kept: Path

    def run(self, command: str, seconds: float) -> tuple[int, str]:
        """Run a shell command in the sources' folder; return its code and what it printed.

        Nothing that runs inside, and no mount, is left behind.
        """
        log = self.root.with_name(f"{self.root.name}.log")
        passed = {k: v for k, v in os.environ.items() if _VARIABLES.fullmatch(k)}
        passed |= {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        inside = ("sh", "-c", f"cd /root/qtctl && exec {command}")
        with log.open("ab") as out:
            began = out.tell()
            process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", _ENTER, "sh", self.root, self.kept, *inside],
                env=passed,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = -1
            finally:
                self.end()
                if process.poll() is None:  # it has not come to chroot
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed = log.read_bytes()[began:].decode(errors="replace")
        return code, printed if code >= 0 else f"{printed}\nnot done in {seconds:g} s"

    def processes(self) -> list[int]:
        """List the processes that have this system's root."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "root").readlink() == self.root:
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Kill what runs inside, and with it the mounts."""

        def gone() -> bool:
            for pid in (pids := self.processes()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        eventually(gone, "nothing runs in the fresh system")


def _remove(system: System) -> None:
    system.end()
    assert f"{system.root}/" not in Path("/proc/self/mountinfo").read_text()
    if system.root.exists():
        shutil.rmtree(system.root)


def _remove_stale(folder: Path) -> None:
    """Remove systems of runs that were killed."""
    for root in folder.glob("fresh-*/"):
        if not Path("/proc", root.name.removeprefix("fresh-")).exists():
            _remove(System(root, folder))


def _folder() -> Path:
    named = os.environ.get("QTCTL_FIELD_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(named) if named else cache / "qtctl-field").resolve()


def _bootstrapped(folder: Path) -> Path:
    """Return a Debian 12 as debootstrap leaves it."""
    base = folder / "bookworm"
    if base.exists():
        return base
    program = needs.program("debootstrap", "debootstrap")
    new = folder / "bookworm.new"
    shutil.rmtree(new, ignore_errors=True)
    with (folder / "debootstrap.log").open("wb") as log:
        ran = subprocess.run(
            [program, "--variant=minbase", "bookworm", new, MIRROR],
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_BOOTSTRAP_SECONDS,
            check=False,
        )
    assert ran.returncode == 0, (folder / "debootstrap.log").read_text(errors="replace")[-3000:]
    return new.rename(base)


def _configure(root: Path) -> None:
    for name in _CONFIGURATION:
        there = root / name.removeprefix("/")
        if Path(name).is_dir():
            shutil.copytree(name, there, dirs_exist_ok=True)
        elif Path(name).exists():
            shutil.copyfile(name, there)


def _put_sources(root: Path) -> None:
    """Unpack HEAD: nothing that was built or installed here comes along."""
    place = root / "root" / "qtctl"
    place.mkdir()
    # Root may not be who owns the checkout.
    git = ["git", "-c", f"safe.directory={TOP}", "-C", str(TOP)]
    archive = subprocess.run([*git, "archive", "HEAD"], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no checkout of git: {archive.stderr.decode(errors='replace').strip()}")
    subprocess.run(["tar", "-x", "-C", place], input=archive.stdout, check=True)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Make a fresh system, and remove it after the last test."""
    if os.geteuid() != 0:
        pytest.skip("debootstrap and chroot need root")
    needs.program("git", "git")
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace can be made here: {tried.stderr.strip()}")
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    base = _bootstrapped(folder)
    made = System(folder / f"fresh-{os.getpid()}", folder / "kept")
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", base, made.root], check=True)
        _configure(made.root)
        _put_sources(made.root)
        yield made
    finally:
        _remove(made)


@pytest.mark.timeout(_BOOTSTRAP_SECONDS + _DEMO_SECONDS + 120)
def test_the_demo_runs(system: System) -> None:
    """It comes first: ``./dev demo`` installs less than ``./dev test``."""
    code, printed = system.run("./dev demo", _DEMO_SECONDS)
    assert code == 0, printed[-5000:]
    assert len(re.findall(r"^# \d/7 ", printed, re.M)) == 7, printed
    assert re.search(r"^[\d:.]+ \d+ virtio_blk_handle_read vdev=0x", printed, re.M), printed
    assert "the guest is gone" in printed


@pytest.mark.timeout(_BOOTSTRAP_SECONDS + _SUITE_SECONDS + 120)
def test_the_whole_suite_passes(system: System) -> None:
    code, printed = system.run(shlex.join(["./dev", "test", *ARGUMENTS]), _SUITE_SECONDS)
    assert code == 0, printed[-20_000:]
    summary = re.findall(r"^=*\s*(\d+ passed.*?)=*$", printed, re.M)
    assert summary, printed[-5000:]
    print(summary[-1])


@pytest.mark.timeout(_BOOTSTRAP_SECONDS + _DEMO_SECONDS + 120)
def test_the_debian_package_is_clean_and_works(system: System) -> None:
    code, printed = system.run(shlex.join(["bash", "-c", _PACKAGE]), _DEMO_SECONDS)
    assert code == 0, printed[-5000:]
    assert printed.endswith("all done\n")


@pytest.mark.timeout(_BOOTSTRAP_SECONDS + 300)
def test_nothing_is_left_running_nor_mounted(system: System) -> None:
    code, printed = system.run("sh -c 'sleep 600 & mount; echo done'", 60)
    assert (code, printed.split()[-1]) == (0, "done")
    assert f"{system.root}/proc" not in Path("/proc/self/mountinfo").read_text()
    assert system.processes() == []
    began = time.monotonic()
    code, printed = system.run("sleep 600", 1)
    assert code == -1
    assert time.monotonic() - began < 60
    assert system.processes() == []
