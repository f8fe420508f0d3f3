"""Captures and declarations of real QEMUs, and ways to run the kernels compiled or interpreted."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import qtctl
from qtctl.events.declarations import Declarations, parse_declarations, parse_line
from qtctl.model import Declaration
from qtctl.records.batch import Batch, EventTable
from qtctl.records.items import Items

DATA = Path(__file__).parent / "data"
CASES = DATA / "cases"
VERSIONS = ("7.2", "10.2", "11.1")
PACKAGE = Path(qtctl.__path__[0])
#: Every kernel module by its dotted name: the shared ones, and the ``kernel.py`` of a folder.
KERNELS = {
    ".".join(("qtctl", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in (*PACKAGE.glob("records/kernels/[!_]*.py"), *PACKAGE.rglob("kernel.py"))
}
FORMS = ("compiled", "interpreted")


@cache
def declarations_text(version: str) -> str:
    return gzip.decompress((DATA / f"trace-events-all-{version}.gz").read_bytes()).decode()


@cache
def declarations(version: str) -> Declarations:
    return parse_declarations(declarations_text(version))


def parse_one(line: str) -> Declaration:
    """Return the event that a line declares."""
    (declaration,) = parse_line(line)
    return declaration


@cache
def event_table(version: str) -> EventTable:
    return EventTable.build(None, declarations(version).by_name)


@cache
def capture(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


def only_batch(items: Items) -> Batch:
    """Return what a decoder made of bytes that hold records and no loss."""
    [batch] = items
    assert isinstance(batch, Batch)
    return batch


def batches(items: Items) -> list[Batch]:
    """Return the batches among what a decoder made."""
    return [item for item in items if isinstance(item, Batch)]


@cache
def interpreted(name: str) -> ModuleType:
    """Load a kernel, by its dotted name, from its source, whatever was compiled beside it."""
    loader = importlib.machinery.SourceFileLoader(f"{name}_interpreted", str(KERNELS[name]))
    spec = importlib.util.spec_from_loader(f"{name}_interpreted", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    assert not module.COMPILED
    return module


@cache
def are_compiled() -> bool:
    return all(importlib.import_module(name).COMPILED for name in KERNELS)


def forms() -> tuple[str, ...]:
    """Ways to run the kernels that there are here, for ``running``."""
    return FORMS if are_compiled() else FORMS[1:]


@contextlib.contextmanager
def running(form: str) -> Iterator[None]:
    """Let all of qtctl run on its kernels compiled (skips where they are not) or interpreted."""
    if form == "compiled" and not are_compiled():
        if os.environ.get("CI") == "true":
            pytest.fail("the kernels are not compiled, though CI has gcc")
        pytest.skip("the kernels are not compiled here: setup.py build_ext --inplace")
    with pytest.MonkeyPatch.context() as patch:
        if form == "interpreted":
            _interpret(patch)
        yield


def _interpret(patch: pytest.MonkeyPatch) -> None:
    for user in [module for name, module in sys.modules.items() if name.startswith("qtctl.")]:
        for name, value in list(vars(user).items()):
            if isinstance(value, ModuleType) and value.__name__ in KERNELS and _uses(user):
                patch.setattr(user, name, interpreted(value.__name__))


def _uses(module: ModuleType) -> bool:
    """Return whether a module calls kernels; a package merely has them as attributes."""
    return not hasattr(module, "__path__")
