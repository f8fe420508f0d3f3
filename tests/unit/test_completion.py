"""What is suggested for a line that is being typed."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.events.declarations import parse_declarations
from qtctl.model import EventState
from qtctl.ui.completion import LIMIT, Vocabulary, suggest
from qtctl.ui.repl import verbs
from tests.running import TOP

READ = "virtio_blk_handle_read"


def load() -> Vocabulary:
    packed = Path(TOP / "tests/data/trace-events-all-7.2.gz").read_bytes()
    declared = parse_declarations(gzip.decompress(packed).decode()).by_name
    states = dict.fromkeys(declared, EventState.DISABLED) | {READ: EventState.ENABLED}
    sets = [("virtio-blk", "Block requests"), ("nvme", "NVMe")]
    return Vocabulary(verbs(), states, declared, lambda: sets)


KNOWN = load()


def texts(line: str) -> list[str]:
    return [found.text for found in suggest(line, KNOWN)]


def metas(line: str) -> dict[str, str]:
    return {found.text: found.meta for found in suggest(line, KNOWN)}


def test_verbs_come_first() -> None:
    assert set(KNOWN.table.rows) == set(texts(""))
    assert texts("en") == ["enable"]
    assert texts("qtctl dis") == ["disable"]
    assert texts("tial") == []
    assert texts("help ta") == ["tail"]
    assert metas("jo")["jobs"] == KNOWN.table.rows["jobs"].summary
    assert "repl" not in texts("")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("virtio_blk_handle_r", READ),
        ("handle_read", READ),
        ("blkread", READ),
        ("vbhr", READ),
        ("BLK_HANDLE_READ", READ),
        ("memregopsread", "memory_region_ops_read"),
    ],
)
def test_events_are_found_by_any_part_of_their_names(typed: str, wanted: str) -> None:
    assert wanted in texts(f"enable {typed}")[:5]


def test_events_tell_their_state_and_arguments() -> None:
    assert metas("tail virtio_blk_handle_read")[READ] == "on  vdev, req, sector, nsectors"
    assert metas("tail virtio_blk_rw_c")["virtio_blk_rw_complete"] == "vdev, req, ret"
    assert len(texts("tail ")) == LIMIT


def test_patterns_are_offered_with_how_many_events_they_match() -> None:
    assert metas("tail virtio_")["virtio_blk_*"] == "7 events"
    assert metas("tail virtio_blk_h*") == {"virtio_blk_h*": "2 events"}
    assert texts("tail -- virtio_* -virtio_gp")[0] == "virtio_gpio_*"


def test_sets_are_offered_behind_an_at() -> None:
    assert metas("enable @virt") == {"@virtio-blk": "Block requests"}
    assert texts("list virtio_* --except @nv") == ["@nvme"]


def test_what_the_configuration_names_is_offered() -> None:
    known = replace(
        KNOWN, aliases={"blk": "tail virtio_blk_*"}, targets=lambda: [("lab", "unix:/x")]
    )
    assert [found.text for found in suggest("bl", known)] == ["blk"]
    assert [found.meta for found in suggest("-t l", known)] == ["unix:/x"]
    assert [found.text for found in suggest("use l", known)] == ["lab"]
    assert [found.text for found in suggest("blk --where nse", known)] == ["nsectors"]


def test_options_and_their_values() -> None:
    assert texts("tail --wh") == ["--where"]
    assert "--json" in texts("list --")
    assert texts("list --state en") == ["enabled"]
    assert texts("list --state=en") == ["enabled"]
    assert texts("tail --time re") == ["rel"]
    assert texts("tail --duration ") == []
    assert READ in texts("list --state enabled virtio_blk_handle_r")


def test_arguments_of_the_selected_events_complete_a_filter() -> None:
    found = metas("tail virtio_blk_* --where 'sector > 0 and ns")
    assert found == {"nsectors": "size_t, in 2 events"}
    assert metas("tail --where sec")["sector"] == "uint64_t, in 1 event", "of what is on"
    assert texts("tail virtio_blk_* --where 'sector == 0 a") == ["and"]
    assert "time_ns" in texts("tail virtio_blk_* --where=t")
    assert texts("tail virtio_blk_* --where 'sector == 0") == []


def test_arguments_to_group_and_to_pair_by() -> None:
    assert texts("top virtio_blk_* --by nse") == ["nsectors"]
    assert texts("latency virtio_blk_handle_read virtio_blk_req_complete --key vdev,r") == ["req"]
    assert {"event", "tid"} < set(texts("count virtio_blk_* --by "))
    assert "time_ns" not in texts("count virtio_blk_* --by ")


def test_files_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my events").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert texts("enable --file m") == ["my\\ events"]
    assert texts("enable --file f") == ["folder/"]
    assert texts("enable --file folder/") == []
    assert texts("enable --file /no/such/") == []
    assert texts("count --from m") == ["my\\ events"]
    assert texts("replay a.log ./f") == ["folder/"]


@given(st.text(alphabet="tail enable-@'\"\\=*_x \t", max_size=40))
def test_any_line_is_suggested_for_without_an_error(line: str) -> None:
    for found in suggest(line, KNOWN):
        assert 0 <= found.replaces <= len(line)
