"""Every example in the documentation runs on a real guest, and answers as is shown.

Those of README.md run in the whole lane.

A page has one guest (see ``tests/cookbook.py``), and its examples run one after the other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import pages
from tests.cookbook import GUESTS, run_examples

pytestmark = pytest.mark.qemu

WITH_EXAMPLES = [page for page in pages.PAGES if page != "README.md" and any(pages.examples(page))]


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_every_example_answers_as_shown(page: str, tmp_path: Path) -> None:
    run_examples(page, tmp_path)


def test_the_pages_have_examples() -> None:
    assert len(WITH_EXAMPLES) > 15
    assert {*GUESTS} <= {"README.md", *WITH_EXAMPLES}
