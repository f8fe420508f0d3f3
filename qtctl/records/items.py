"""What a stream yields: batches of records, losses, and news of the guest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qtctl.model import Backend, News
from qtctl.records.batch import Batch


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that were lost at this place of the stream.

    ``count`` is None where it is unknown. ``time_ns`` is Unix time in ns. ``file`` is the file's
    name, where several are read at once; ``guest`` the guest's, where several are followed.
    """

    backend: Backend
    count: int | None
    time_ns: int
    file: str | None = None
    guest: str | None = None


Items = list[Batch | Loss]
Item: TypeAlias = Batch | Loss | News


def labelled(item: Batch | Loss, **of: Any) -> Batch | Loss:
    """Return records or a loss with the ``file`` or ``guest`` that they are of."""
    if isinstance(item, Loss):
        return replace(item, **of)
    return replace(item, origins=tuple(one._replace(**of) for one in item.origins))
