"""The unit tests pass on every Python that qtctl supports and this machine has.

Those that start processes run on the newest of them alone, for time. ``./dev pythons`` runs this
module; its environments are kept in ``build/pythons``.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.packages import TOP, VERSIONS, interpreter


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", VERSIONS)
def test_unit_tests_pass(version: str) -> None:
    if version == "{}.{}".format(*sys.version_info):
        pytest.skip(f"Python {version} runs all the tests")
    python = interpreter(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    folder = TOP / "build" / "pythons" / version
    inside = str(folder / "bin" / "python")
    ours = ("PYTHON", "PYTEST")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    newest = [one for one in VERSIONS if interpreter(one)][-1] == version
    chosen = [] if newest else ["-m", "not process"]
    for command in (
        [str(python), "-m", "venv", str(folder)],
        [inside, "-m", "pip", "install", "-q", "--no-compile", "-e", ".[dev]"],
        [inside, "-m", "pytest", "-q", "-n", "4", "-p", "no:cacheprovider", "tests/unit", *chosen],
    ):
        ran = subprocess.run(
            command, cwd=TOP, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        print(ran.stdout)
