"""Arguments of records that are cut short: they stay raw, as their last value may be half a one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.event_table import EventTable


@dataclass(frozen=True, slots=True)
class CutArguments:
    """Parses no row."""

    binary: ClassVar[bool] = False

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "cut"}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Return no columns, and that no row could be parsed."""
        return {}, np.zeros(len(begin), np.bool_)


def reader(table: EventTable, facts: Mapping[str, object]) -> CutArguments:
    """Return the reader for recorded rows."""
    return CutArguments()
