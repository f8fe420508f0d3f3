"""What a stream yields: batches of records, losses, and news of the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from qtctl.model import Backend, News
from qtctl.records.batch import Batch


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that were lost at this place of the stream.

    ``count`` is None where it is unknown. ``time_ns`` is Unix time in ns. ``file`` is the file's
    name, where several are read at once.
    """

    backend: Backend
    count: int | None
    time_ns: int
    file: str | None = None


Items = list[Batch | Loss]
Item: TypeAlias = Batch | Loss | News
