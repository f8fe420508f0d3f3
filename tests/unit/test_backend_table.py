"""Which backend is taken: what QEMU has, the cheapest first, and plain words where none will do."""

from __future__ import annotations

import pytest

from qtctl.backends.feeds import _MODULES
from qtctl.backends.table import TABLE, candidates
from qtctl.errors import Unsupported, UsageError
from qtctl.model import Backend


def test_every_backend_has_a_row_and_what_is_followed_has_a_feed() -> None:
    assert set(TABLE) == set(Backend)
    assert {name for name, row in TABLE.items() if row.followed} == set(_MODULES)


def test_auto_takes_what_there_is_in_the_table_s_order() -> None:
    followed = [name for name, row in TABLE.items() if row.followed]
    assert candidates(list(Backend)[:-1], "auto", "here") == followed
    assert candidates([Backend.LOG], "auto", "here") == [Backend.LOG]
    assert candidates([Backend.LOG, Backend.SIMPLE], "simple", "here") == [Backend.SIMPLE]


def test_what_is_on_is_known_to_qmp_only() -> None:
    everything = [Backend.LOG, Backend.UST]
    assert candidates(everything, "auto", "here", named=False) == [Backend.LOG]
    with pytest.raises(UsageError, match="ust says nothing until") as caught:
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
