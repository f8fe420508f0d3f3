"""Event sets: the shipped ones match real QEMUs; sets are found, nested, flattened and saved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.errors import UsageError
from qtctl.events import sets
from qtctl.events.files import parse_events
from qtctl.events.patterns import Rule, matcher
from qtctl.events.selection import Selection, flat
from tests.samples import VERSIONS, declarations

SHIPPED = sorted(path.stem for path in (Path(sets.__file__).parent / "sets").glob("*.events"))

#: Events that a guest can cause a hundred thousand times a second in normal operation.
FLOODS = re.compile(
    r"memory_region_(ops|subpage|ram_device)_|subpage_|kvm_(run_exit|vcpu_ioctl|vm_ioctl|ioctl)$"
    r"|kvm_(cpu_exec|interrupt_exit_request)|exec_tb|cpu_exec_|vfio_region_(read|write)$"
    r"|vfio_(quirk|vga|rom)_|vfio_pci_(read|write)_config|apic_(mem|register)_|ioapic_mem_"
    r"|hpet_ram_|mc146818_rtc_ioport|pit_ioport|pic_ioport|pckbd_kbd_|ide_(data|ioport|status)_"
    r"|bmdma_(read|write)|aio_co|poll_|run_poll|lockcnt_|object_|ram_save_page|ram_load_loop"
    r"|migration_bitmap_clear_dirty|get_queued_page|save_xbzrle|vmstate_(load|save)_state"
    r"|usb_(uhci|ehci|ohci|dwc2)_|usb_xhci_(runtime|oper|doorbell|fetch)|e1000e_core_(read|write)"
    r"|serial_(read|write)|vga_(std|cirrus)|vnc_client_(read|write)_|ahci_(mem|port)_(read|write)"
    r"|lsi_(reg|execute)|sdcard_(read|write)_data|fw_cfg_read|pci_cfg_"
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's own sets, which is empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "qtctl" / "sets"
    folder.mkdir(parents=True)
    return folder


def events(version: str) -> list[str]:
    """List the events that a QEMU can be built with, for any target."""
    by_name = declarations(version).by_name
    return [name for name, declaration in by_name.items() if not declaration.disabled]


def test_sets_for_common_subsystems_are_shipped() -> None:
    expected = "virtio-blk virtio-net virtio-scsi virtio nvme migration qmp block scsi ide ahci usb"
    expected += " pci memory kvm timers vfio vnc net"
    assert set(expected.split()) <= set(SHIPPED)
    assert sets.names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_matches_events_of_real_qemus(name: str) -> None:
    found = sets.read_set(name)
    assert 20 < len(found.about) <= 100
    assert not found.own
    every = {version: events(version) for version in VERSIONS}
    for version in VERSIONS:
        absent = "not in QEMU 7.2" in found.about and version == "7.2"
        picked = Selection.of(f"@{name}").pick(every[version])
        assert bool(picked) != absent, version
        assert len(picked) < len(every[version]) / 8, "a set is a part, not half of QEMU"
        flooding = [event for event in picked if FLOODS.match(event)]
        warned = re.search("[Ff]lood|[Ee]very access", found.about)
        assert warned or not flooding, flooding
    known = {event for names in every.values() for event in names}
    for include, pattern in found.rules:
        assert include, "a set that leaves nothing out can stand anywhere in another"
        assert any(map(matcher(pattern), known)), pattern


def test_the_users_own_set_takes_precedence(own: Path) -> None:
    (own / "nvme.events").write_text("pci_nvme_err_*\n")
    (own / "mine.events").write_text("\ufeff# Mine. \r\nmy_*\r\n")
    assert Selection.of("@nvme").pick(["pci_nvme_read", "pci_nvme_err_aio"]) == ["pci_nvme_err_aio"]
    assert sets.read_set("nvme").own
    assert sets.read_set("mine").about == "Mine."
    assert "mine" in sets.names()


def test_a_set_is_one_rule_of_a_selection(own: Path) -> None:
    (own / "a.events").write_text("a*\n-ab*\n")
    (own / "b.events").write_text("@a\nb*\n-@none\n")
    (own / "none.events").write_text("# nothing yet\n")
    names = ["a", "ab", "abc", "b", "c"]
    assert Selection.of("@a").pick(names) == ["a"]
    # What the set itself leaves out is not taken from the rest,
    assert Selection.of("ab", "@a").pick(names) == ["a", "ab"]
    # and leaving a set out does not take in what it leaves out.
    assert Selection(((True, "*"), (False, "@a"))).pick(names) == ["ab", "abc", "b", "c"]
    assert Selection.of("@b").pick(names) == ["a", "b"]
    assert Selection.of("@none", "@b").unmatched(names) == ["@none"]
    assert not Selection.of("@a").plain
    assert Selection(((True, "@a"), (False, "@b"))).words() == ["@a", "-@b"]


def test_an_unknown_set_suggests_similar_ones() -> None:
    for wrong in ("@virtio-blc", "@VIRTIO-BLK"):
        with pytest.raises(UsageError) as caught:
            Selection.of(wrong)
        assert wrong in caught.value.message
        assert "@virtio-blk" in caught.value.hint
    with pytest.raises(UsageError, match="qtctl sets"):
        Selection.of("@nothing_like_it")


@pytest.mark.parametrize("name", ["", "../secret", "a/b", "a b", "a\n", ".hidden", "a*", "\x1b[2J"])
def test_names_that_no_set_can_have(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name"):
        Selection.of(f"@{name}")
    with pytest.raises(UsageError, match="cannot name"):
        sets.save(name, [(True, "x")])


def test_a_cycle_is_named(own: Path) -> None:
    (own / "a.events").write_text("@b\n")
    (own / "b.events").write_text("x\n-@c\n")
    (own / "c.events").write_text("@b\n")
    with pytest.raises(UsageError, match="@b contains @c contains @b"):
        Selection.of("@a")


def test_a_bad_file_is_named_with_its_line(own: Path) -> None:
    path = own / "bad.events"
    path.write_text("fine\ntwo words\n")
    with pytest.raises(UsageError) as caught:
        Selection.of("@bad")
    assert str(path) in caught.value.message
    assert "line 2" in caught.value.message
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not a text file"):
        Selection.of("@bad")


def test_saving_replaces_only_with_replace(own: Path) -> None:
    path = sets.save("mine", [(True, "@nvme"), (False, "pci_nvme_io*")])
    assert path == own / "mine.events"
    assert path.read_text() == "@nvme\n-pci_nvme_io*\n"
    with pytest.raises(UsageError, match="exists"):
        sets.save("mine", [(True, "x")])
    assert path.read_text().startswith("@nvme")
    sets.save("mine", [(True, "x")], replace=True)
    assert path.read_text() == "x\n"
    sets.save("outer", [(True, "@mine")])
    with pytest.raises(UsageError, match="contain itself"):
        sets.save("mine", [(True, "@outer")], replace=True)


NAMES = [a + b for a in "abc" for b in ("", "a", "b", "ab")]
RULES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["a", "b*", "*a", "*b", "c?*", "*", "ab"])), max_size=4
)


def as_qemu_reads(rules: list[Rule]) -> list[str]:
    """Switch events from top to bottom, as ``-trace events=FILE`` does."""
    on: set[str] = set()
    for include, pattern in rules:
        hit = set(filter(matcher(pattern), NAMES))
        on = on | hit if include else on - hit
    return [name for name in NAMES if name in on]


@given(RULES, RULES, RULES, st.booleans())
def test_flat_rules_select_the_same(
    before: list[Rule], inner: list[Rule], after: list[Rule], include: bool
) -> None:
    rules = (*before, (include, "@inner"), *after)
    selection = Selection(rules, {"inner": Selection(tuple(inner))})
    try:
        flattened = flat(selection)
    except UsageError as error:
        assert "@inner leaves out" in error.message
        assert not all(taken for taken, _ in inner)
        return
    text = "".join(f"{word}\n" for word in Selection(tuple(flattened)).words())
    assert parse_events(text) == flattened
    assert as_qemu_reads(flattened) == selection.pick(NAMES)
