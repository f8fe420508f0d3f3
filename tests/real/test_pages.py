"""Every example in the documentation runs on a real guest, and answers as is shown.

A page has one guest (see ``tests/cookbook.py``), and its examples run one after the other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pages
from tests.cookbook import GUESTS, shell
from tests.running import PATIENCE_SECONDS

pytestmark = pytest.mark.qemu

WITH_EXAMPLES = [page for page in pages.PAGES if any(pages.examples(page))]
_SECONDS = 4 * PATIENCE_SECONDS


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_every_example_answers_as_shown(page: str, tmp_path: Path) -> None:
    with shell(page, tmp_path) as environment:
        for example in pages.examples(page):
            pages.run(example, tmp_path, environment, _SECONDS)


def test_the_pages_have_examples() -> None:
    assert len(WITH_EXAMPLES) > 15
    assert set(GUESTS) <= set(WITH_EXAMPLES)


def test_the_program_in_the_api_documentation_runs(tmp_path: Path) -> None:
    program = pages.blocks("docs/api.md", "python")[0]
    with shell("docs/api.md", tmp_path) as environment:
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"has 7 virtio-blk events", ran.stdout)
    assert re.search(r"^sector 0: \d+ requests$", ran.stdout, re.M)
