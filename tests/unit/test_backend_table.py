"""Which backend is taken: what QEMU has, the cheapest first, and plain words where none will do."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from qtctl import backends
from qtctl.backends.detect import backends_from, signs_of_process
from qtctl.backends.table import (
    TABLE,
    BackendRow,
    Undoing,
    by_cost,
    candidates,
    recorded_arguments,
)
from qtctl.errors import Unsupported, UsageError
from qtctl.leases.journal import Resource
from qtctl.model import Backend, Guest
from qtctl.session.replay import open_saved

FOLLOWED = [row for row in TABLE.values() if row.followed]


@pytest.mark.parametrize("row", FOLLOWED, ids=lambda row: str(row.name))
def test_what_is_followed_has_its_parts(row: BackendRow) -> None:
    assert row.signs is not None
    assert callable(row.signs.in_process)
    assert importlib.util.find_spec(f"qtctl.backends.{row.name}.feed") is not None
    if row.resource:
        assert callable(row.undo.end) and callable(row.undo.discard)
    if row.arguments:
        for form in row.arguments.split():
            assert callable(recorded_arguments(form).reader)


def test_names_are_plain_text_and_open() -> None:
    assert Backend.LOG == "log" == str(Backend("log"))
    assert json.dumps({Backend.LOG: Backend("later")}) == '{"log": "later"}'
    assert pickle.loads(pickle.dumps(Backend.UST)) == Backend.UST
    for odd in ("", "a b", "\x1b[2J", "é", None, 5):
        with pytest.raises(ValueError, match="names no trace backend"):
            Backend(odd)  # type: ignore[arg-type]


async def test_leases_of_all_backends_are_undone_by_their_kind(tmp_path: Path) -> None:
    """Old journals hold these kinds; one that nobody knows is reported, not forgotten."""
    kinds = {row.resource for row in FOLLOWED if row.resource}
    assert kinds == {"log", "simple", "tracefs", "lttng", "uprobes"}
    undoing = Undoing()
    spool = tmp_path / "qtctl-spool-1" / "log"
    for kind in ("log", "simple"):
        spool.parent.mkdir()
        spool.touch()
        facts = dict.fromkeys(("undo", "on", "seen"), "x")
        undoing.discard(Resource(kind, {**facts, "spool": str(spool)}))
        assert not spool.parent.exists()
    unknown = Resource("from the future", {})
    undoing.discard(unknown)
    told = await undoing.end(unknown, cast(Any, None), None)
    assert told == "a from the future that another version of qtctl made was not undone"


@pytest.mark.parametrize("kind", ["log", "simple", "tracefs", "lttng"])
async def test_a_lease_without_its_facts_is_reported(kind: str) -> None:
    resource = Resource(kind, {})
    Undoing().discard(resource)
    told = await Undoing().end(resource, cast(Any, None), None)
    assert told == f"a {kind} that another version of qtctl made was not undone"


def test_a_journal_cannot_have_other_files_removed(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "log"
    file.parent.mkdir()
    file.touch()
    facts = {"spool": str(file), "undo": "x", "session": "none", "folder": str(file.parent)}
    Undoing().discard(Resource("log", facts))
    Undoing().discard(Resource("log", {**facts, "spool": "/qtctl-spool-\0/log"}))
    Undoing().discard(Resource("lttng", facts))
    assert file.exists()


def test_a_backend_is_one_folder_and_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Backend("echo")
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "signs.py").write_text("def in_process(process):\n    return bool(process.links)\n")
    (folder / "feed.py").write_text("async def open_feed(request):\n    return request\n")
    (folder / "undo.py").write_text(
        "from pathlib import Path\n"
        "NEEDS = (frozenset({'file'}),)\n"
        "def discard(resource):\n"
        "    Path(resource.facts['file']).unlink()\n"
    )
    (folder / "saved.py").write_text(
        "from qtctl.backends.saved import Fit\n"
        "def fit(path, head):\n"
        "    return Fit.CERTAIN if head == b'echo' else Fit.NO\n"
        "def open_saved(path, file, events_all):\n"
        "    file.close()\n"
        "    return 'an echo'\n"
    )
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    monkeypatch.setitem(TABLE, name, BackendRow(name, "an echo", cost=0, resource="echo"))
    try:
        here = Guest(os.getpid(), 0, "", ())
        assert name in backends_from(signs_of_process(here))
        assert candidates([Backend.LOG, name], "auto", "here") == [name, Backend.LOG]
        request = cast(Any, object())
        assert asyncio.run(TABLE[name].open_feed(request)) is request
        made = tmp_path / "made"
        made.touch()
        Undoing().discard(Resource("echo", {"file": str(made)}))
        assert not made.exists()
        written = tmp_path / "written"
        written.write_bytes(b"echo")
        assert cast(Any, open_saved(written, None)) == "an echo"
    finally:
        for module in [
            module for module in sys.modules if module.startswith("qtctl.backends.echo")
        ]:
            del sys.modules[module]


def test_auto_takes_what_there_is_the_cheapest_first() -> None:
    followed = [row.name for row in by_cost() if row.followed]
    assert followed[:3] == [Backend.UST, Backend.SIMPLE, Backend.LOG]
    assert candidates(list(TABLE)[:-1], "auto", "here") == followed
    assert candidates([Backend.LOG], "auto", "here") == [Backend.LOG]
    assert candidates([Backend.LOG, Backend.SIMPLE], "simple", "here") == [Backend.SIMPLE]


def test_what_is_on_is_known_to_qmp_only() -> None:
    everything = [Backend.LOG, Backend.UST]
    assert candidates(everything, "auto", "here", named=False) == [Backend.LOG]
    with pytest.raises(UsageError, match="ust emits nothing until") as caught:
        candidates(everything, "ust", "here", named=False)
    assert caught.value.hint == "qtctl tail PATTERN"


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="no backend is called 'lgo'"):
        candidates([Backend.LOG], "lgo", "here")
    with pytest.raises(Unsupported, match="has no simple backend; it has log"):
        candidates([Backend.LOG], "simple", "here")
    for known in ([], [Backend.NOP]):
        with pytest.raises(Unsupported, match="built without tracing") as caught:
            candidates(known, "auto", "here")
        assert "--enable-trace-backends=log" in caught.value.hint
