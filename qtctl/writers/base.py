"""What an export is that is more than lines of text."""

from __future__ import annotations

from typing import Protocol

from qtctl.records.items import Item

__all__ = ["Export"]


class Export(Protocol):
    """Takes what a file or stream holds, in order. Every call blocks for as long as it writes.

    Raises:
        OSError: it cannot be written (disk full).
    """

    def take(self, item: Item) -> None:
        """Write the next batch, loss or note."""

    def finish(self) -> None:
        """Write what comes at the end."""

    def close(self) -> None:
        """Close what is open, whether it is finished or not."""
