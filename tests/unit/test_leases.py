"""Leases: what counts as found, what is given back, and a journal that survives anything."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.errors import LeaseError
from qtctl.leases import journal as leases_module
from qtctl.leases.journal import (
    Change,
    Journal,
    Lease,
    Owner,
    Resource,
    extend,
    guest_key,
    guest_of_key,
    to_give_back,
)
from qtctl.monitor.processes import start_ticks

ME, OTHER = Owner(os.getpid(), start_ticks(os.getpid()) or 0, 1), Owner(20, 2, 1)
FILE = f"{ME.pid}-{ME.started}-1.json"


def lease(owner: Owner | None, **changes: tuple[bool, bool]) -> Lease:
    return Lease(owner, {name: Change(*pair) for name, pair in changes.items()})


def test_the_state_before_counts_as_found() -> None:
    mine = extend(Lease(ME), {"off": False, "on": True}, True, [])
    assert mine.events == {"off": Change(False, True)}  # the other needs no undoing


def test_what_another_lease_found_is_found() -> None:
    theirs = lease(OTHER, a=(False, True))
    mine = extend(Lease(ME), {"a": True}, True, [theirs])
    assert mine.events == {"a": Change(False, True)}


def test_switching_back_by_hand_needs_no_lease() -> None:
    standing = extend(Lease(None), {"a": False}, True, [])
    assert extend(standing, {"a": True}, False, []).events == {}


def test_given_back_unless_held_or_switched_by_others() -> None:
    mine = lease(
        ME, mine=(False, True), held=(False, True), theirs=(False, True), gone=(False, True)
    )
    others = [lease(OTHER, held=(False, True))]
    now = {"mine": True, "held": True, "theirs": False}
    assert to_give_back(mine, others, now) == {"mine": False}


def test_who_overrules_another_gives_it_back_what_it_wants() -> None:
    standing = lease(None, a=(False, True))
    guard = extend(Lease(ME), {"a": True}, False, [standing])
    assert guard.events == {"a": Change(False, False)}
    assert to_give_back(guard, [standing], {"a": False}) == {"a": True}
    assert to_give_back(guard, [], {"a": False}) == {}


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from([True, False, None])), max_size=12),
    st.booleans(),
)
def test_when_all_have_left_the_guest_is_as_found(
    steps: list[tuple[str, bool | None]], found: bool
) -> None:
    """Any interleaving of those who switch (on or off) and leave (None) ends where it began."""
    owners = {name: Owner(ord(name), 1, 1) for name in "ABC"}
    held: dict[str, Lease] = {}
    state = found
    leavings = [(name, None) for name in "ABC"]
    for name, wanted in [*steps, *leavings]:
        others = [le for other, le in held.items() if other != name]
        if wanted is None:
            mine = held.pop(name, Lease(owners[name]))
            for value in to_give_back(mine, others, {"e": state}).values():
                state = value
        else:
            mine = held.get(name, Lease(owners[name]))
            held[name] = extend(mine, {"e": state}, wanted, others)
            state = wanted
    assert state is found


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "guest")


async def test_a_lease_comes_back_from_disk_as_it_was(journal: Journal) -> None:
    whole = Lease(
        ME,
        {"a": Change(False, True)},
        (Resource("log", {"undo": "/dev/stderr", "spool": "/run/x/log"}),),
    )
    async with journal.locked():
        journal.write(whole)
        journal.write(lease(None, b=(True, False)))
        assert journal.of(ME) == whole
        assert journal.others(ME) == [lease(None, b=(True, False))]
        journal.write(Lease(ME))
        assert not journal.of(ME)
    assert (journal.folder.stat().st_mode & 0o777) == 0o700
    assert {path.stat().st_mode & 0o777 for path in journal.folder.iterdir()} == {0o600}


async def test_orphans_are_leases_of_the_dead(journal: Journal) -> None:
    async with journal.locked():
        for owner in (ME, OTHER, None):
            journal.write(lease(owner, a=(False, True)))
        assert [orphan.owner for orphan in journal.orphans()] == [OTHER]
        assert {other.owner for other in journal.others(None)} == {ME}


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", '{"schema": 2}', '{"schema": 1, "owner": 5}', "\x00\xff"),
        "[" * 100_000,
        "9" * 5000,
        *(
            json.dumps({"schema": 1, "owner": None, "events": {}, "resources": [], key: value})
            for key, value in (
                ("schema", True),
                ("owner", [1, 2]),
                ("owner", [1, 2, "3"]),
                ("owner", [1, 2, 10**30]),
                ("owner", [-1, 2, 3]),
                ("events", []),
                ("events", {"a": [0, 1]}),
                ("events", {"a": [True]}),
                ("events", {"\ud800": [True, False]}),
                ("resources", {}),
                ("resources", [5]),
                ("resources", [{"kind": "log"}]),
                ("resources", [{"kind": [], "facts": {}}]),
                ("resources", [{"kind": "log", "facts": []}]),
                ("resources", [{"kind": "log", "facts": {"spool": 1}}]),
            )
        ),
    ],
)
async def test_a_broken_file_is_set_aside_and_named(journal: Journal, content: str) -> None:
    async with journal.locked():
        journal.write(lease(ME, a=(False, True)))
        (journal.folder / "9-9-9.json").write_text(content)
        assert [le.owner for le in journal.leases()] == [ME]
        assert len(journal.broken) == 1
        [(aside, why)] = journal.broken.items()
        assert aside.read_text() == content
        assert why
        assert len(journal.leases()) == 1
    assert len(journal.broken) == 1  # said once


async def test_the_journal_is_on_disk_before_write_returns(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    async with journal.locked():
        journal.write(lease(ME, a=(False, True)))
        assert len(synced) == 2  # the file and its folder
        document = json.loads((journal.folder / FILE).read_text())
        assert document["events"] == {"a": [False, True]}


async def test_a_full_disk_leaves_the_old_lease(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    async with journal.locked():
        journal.write(lease(ME, a=(False, True)))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(LeaseError, match=r"No space left.*nothing was switched"):
            journal.write(lease(ME, a=(False, True), b=(False, True)))
        assert journal.of(ME) == lease(ME, a=(False, True))
    assert sorted(p.name for p in journal.folder.iterdir()) == [FILE, "lock"]


async def test_the_lock_keeps_others_out_until_it_is_let_go(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []

    async def second() -> None:
        async with Journal(journal.folder).locked():
            order.append("second")

    async with journal.locked():
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        order.append("first")
    await waiting
    assert order == ["first", "second"]

    monkeypatch.setattr(leases_module, "LOCK_TIMEOUT_S", 0.05)
    async with journal.locked():
        with pytest.raises(LeaseError, match="another qtctl"):
            await second()


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "guest")
    with pytest.raises(LeaseError) as caught:
        async with journal.locked():
            pass
    assert "XDG_STATE_HOME" in caught.value.hint


def test_a_folder_s_name_stands_for_a_process_of_this_boot() -> None:
    assert guest_of_key(guest_key(7, 9)) == (7, 9)
    assert guest_of_key("0000000g-7-9") is None
    assert guest_of_key("00000000-7-9") == (0, 0)
    assert guest_of_key("remote-tcp:somewhere:4444") is None
