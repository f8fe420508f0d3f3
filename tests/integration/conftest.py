"""Fixtures that run qtctl against fakes and files."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import TOP

MakeFake = Callable[..., FakeProcess]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a private folder with a path short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="qtctl-test-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def make_fake(folder: Path) -> Iterator[MakeFake]:
    """Start fakes that log to ``NAME.log`` and listen on ``NAME`` in ``folder``."""
    with contextlib.ExitStack() as stack:

        def make(*arguments: str, name: str = "qmp") -> FakeProcess:
            where = ("--socket", str(folder / name), "-D", str(folder / f"{name}.log"))
            return stack.enter_context(FakeProcess(*where, *arguments))

        yield make


@pytest.fixture
def fake(make_fake: MakeFake) -> FakeProcess:
    """Return a fake QEMU 7.2 that logs to ``qmp.log`` in ``folder``."""
    return make_fake()


@pytest.fixture(scope="session")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ``trace-events-all`` of QEMU 7.2, unpacked."""
    path = tmp_path_factory.mktemp("declared") / "trace-events-all"
    path.write_bytes(gzip.decompress((TOP / "tests/data/trace-events-all-7.2.gz").read_bytes()))
    return path
