"""The examples of README.md run on a real guest, and answer as is shown.

Those of the other pages run in the field lane (``tests/field/test_pages.py``).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pages
from tests.cookbook import EXAMPLE_SECONDS, run_examples, shell

pytestmark = pytest.mark.qemu


def test_every_example_answers_as_shown(tmp_path: Path) -> None:
    run_examples("README.md", tmp_path)


def test_the_program_in_the_api_documentation_runs(tmp_path: Path) -> None:
    program = pages.blocks("docs/api.md", "python")[0]
    with shell("docs/api.md", tmp_path) as environment:
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=EXAMPLE_SECONDS,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"has 7 virtio-blk events", ran.stdout)
    assert re.search(r"^sector 0: \d+ requests$", ran.stdout, re.M)
