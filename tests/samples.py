"""Captures and declarations of real QEMUs, and ways to run the kernels compiled or interpreted."""

from __future__ import annotations

import contextlib
import gzip
import importlib.machinery
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from qtctl.events.declarations import Declarations, parse_declarations
from qtctl.records import batch, columns, kernels, logtext, table
from qtctl.records.batch import EventTable

DATA = Path(__file__).parent / "data"
VERSIONS = ("7.2", "10.2", "11.1")


@cache
def declarations_text(version: str) -> str:
    return gzip.decompress((DATA / f"trace-events-all-{version}.gz").read_bytes()).decode()


@cache
def declarations(version: str) -> Declarations:
    return parse_declarations(declarations_text(version))


@cache
def event_table(version: str) -> EventTable:
    return EventTable.build(None, declarations(version).by_name)


@cache
def capture(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


@cache
def interpreted(name: str = "kernels") -> ModuleType:
    """Load a module of ``records`` from its source, whatever was compiled beside it."""
    path = Path(kernels.__file__).parent / f"{name}.py"
    loader = importlib.machinery.SourceFileLoader(f"{name}_interpreted", str(path))
    spec = importlib.util.spec_from_loader(f"{name}_interpreted", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    assert not module.COMPILED
    return module


def need_compiled() -> None:
    if not kernels.COMPILED:
        pytest.skip("the kernels are not compiled here: setup.py build_ext --inplace")


@contextlib.contextmanager
def using(module: ModuleType) -> Iterator[None]:
    """Let the records modules run on ``module`` instead of the kernels they imported."""
    with pytest.MonkeyPatch.context() as patch:
        for user in (batch, columns, logtext, table):
            patch.setattr(user, "kernels", module)
        yield
