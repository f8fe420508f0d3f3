"""The packages of a release run in an empty environment, with and without what compiles kernels.

Dependencies come from the package index that pip is configured for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs
from tests.packages import TOP, build_sdist, build_wheel, repair_wheel
from tests.samples import capture, declarations_text

pytestmark = pytest.mark.timeout(1800)

COMPILED = "decoding runs compiled"
INTERPRETED = "decoding runs as plain Python"


def copied(tmp_path: Path) -> Path:
    """Return a copy of this checkout in which nothing was built."""
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "__pycache__")
    return Path(shutil.copytree(TOP, tmp_path / "checkout", ignore=ignored))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    return build_sdist(folder, copied(folder))


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    return build_wheel(sdist.parent, sdist, Path(sys.executable))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copied(tmp_path)


@dataclass(frozen=True)
class Environment:
    """A virtual environment whose PATH has its own commands and, at most, a compiler."""

    folder: Path
    compiler: Path | None = None

    def run(self, *command: str | Path) -> str:
        """Run a command, as one does in this environment; return what it prints on stdout."""
        path = [str(self.folder / "bin"), *([str(self.compiler)] if self.compiler else [])]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "QTCTL_"))
        }
        environment |= {"PATH": os.pathsep.join(path), "XDG_STATE_HOME": str(self.folder / "state")}
        ran = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        # doctor finds no guest.
        assert ran.returncode == 0 or command[-1] == "doctor", (ran.stdout, ran.stderr)
        return ran.stdout

    def pip(self, *words: str) -> str:
        """Run the pip of these tests on this environment, which has none."""
        return self.run(sys.executable, "-m", "pip", "--python", self.folder / "bin/python", *words)

    def install(self, package: Path) -> None:
        self.pip("install", "--no-cache-dir", str(package))

    def qtctl(self, *words: str) -> str:
        return self.run(self.folder / "bin/qtctl", *words)


def environment(tmp_path: Path, compiler: Path | None = None) -> Environment:
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)
    return Environment(folder, compiler)


def compiler_without_python_headers(tmp_path: Path) -> Path:
    """Return a folder of compilers that do not search the folder of ``Python.h``."""
    folder = tmp_path / "compiler"
    folder.mkdir()
    for name in {"gcc", "cc", str(sysconfig.get_config_var("CC")).split()[0]}:
        real = shutil.which(name) or pytest.skip(f"{name} is missing")
        script = [
            f"#!{sys.executable} -I",
            "import os, sys",
            "words = [word for word in sys.argv[1:] if not word.startswith('-I')]",
            f"os.environ['PATH'] = {os.environ['PATH']!r}",
            f"os.execv({real!r}, [{real!r}, *words])",
        ]
        (folder / Path(name).name).write_text("\n".join(script) + "\n")
        (folder / Path(name).name).chmod(0o755)
    return folder


def check(installed: Environment, tmp_path: Path, form: str) -> None:
    """Check which form of the kernels runs, and that it reads a log as this checkout does."""
    log, declared = tmp_path / "trace.log", tmp_path / "trace-events-all"
    log.write_bytes(capture("qemu-7.2-log-timestamp.txt"))
    declared.write_text(declarations_text("7.2"))
    words = ["replay", str(log), "--events-all", str(declared), "--ndjson"]
    here = [sys.executable, "-m", "qtctl", *words]
    expected = subprocess.run(here, cwd=TOP, capture_output=True, text=True, check=True).stdout
    assert len(expected.splitlines()) > 1000
    assert installed.qtctl(*words) == expected
    assert form in installed.qtctl("doctor")
    assert installed.qtctl("--version").startswith("qtctl ")
    page = installed.run(needs.program("man", "man-db"), "-w", "qtctl-tail").strip()
    assert page == str(installed.folder / "share/man/man1/qtctl-tail.1")
    packages = installed.pip("list", "--format", "freeze").lower()
    assert "numpy==" in packages
    assert "cython==" not in packages


def test_wheel_has_every_kernel_compiled(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    kernels = {
        str(name.with_suffix(""))
        for name in names
        if name.suffix == ".py" and not name.stem.startswith("_")
        if name.name == "kernel.py" or name.parent.name == "kernels"
    }
    assert len(kernels) > 10
    with zipfile.ZipFile(wheel) as archive:
        built = {name.partition(".")[0] for name in archive.namelist() if name.endswith(".so")}
    assert built == {*kernels, "qtctl/records/kernels/_cython"}
    try:
        wheel = repair_wheel(tmp_path / "repaired", wheel)
    except RuntimeError as error:
        assert "auditwheel" in str(error)  # the wheel for this machine is what is tested then
    empty = environment(tmp_path)
    empty.install(wheel)
    check(empty, tmp_path, COMPILED)


@pytest.mark.parametrize("lacking", ["gcc", "Python.h"])
@pytest.mark.parametrize("package", ["checkout", "sdist"])
def test_without_what_compiles_the_kernels_they_run_interpreted(
    sdist: Path, checkout: Path, package: str, lacking: str, tmp_path: Path
) -> None:
    compiler = compiler_without_python_headers(tmp_path) if lacking == "Python.h" else None
    empty = environment(tmp_path, compiler)
    empty.install(checkout if package == "checkout" else sdist)
    check(empty, tmp_path, INTERPRETED)


@pytest.mark.parametrize(
    ("command", "folder"),
    [("pipx install", "PIPX_BIN_DIR"), ("uv tool install", "UV_TOOL_BIN_DIR")],
)
def test_tools_that_install_applications_install_it(
    wheel: Path, command: str, folder: str, tmp_path: Path
) -> None:
    """As docs/install.md says; the tools come from the package index, too."""
    tools = environment(tmp_path)
    tool, *words = command.split()
    tools.pip("install", "--no-cache-dir", tool)
    names = {folder, "PIPX_HOME", "PIPX_MAN_DIR", "UV_TOOL_DIR"}
    own = [f"{name}={tmp_path / name}" for name in names]
    own.append(f"UV_PYTHON={sys.executable}")  # or it downloads one
    tools.run("/usr/bin/env", *own, tools.folder / "bin" / tool, *words, wheel)
    assert tools.run(tmp_path / folder / "qtctl", "--version").startswith("qtctl ")


def test_a_kernel_that_cython_refuses_is_left_out_and_its_old_extension_too(checkout: Path) -> None:
    [kernel] = checkout.rglob("kernels/naming.py")
    old = kernel.with_suffix(".cpython-311-x86_64-linux-gnu.so")
    old.touch()
    os.utime(old, (0, 0))
    refused = "@cython.cfunc\ndef refused(data: cython.p_uchar) -> list:\n    return data\n"
    kernel.write_text(f"{kernel.read_text()}\n\n{refused}")
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    ran = subprocess.run(build, cwd=checkout, capture_output=True, text=True, check=True)
    assert "the kernels are not compiled" in ran.stdout + ran.stderr
    assert not list(checkout.rglob("*.so"))
