"""Arrays that a decoder's kernel fills with rows, a part at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

ROWS = 1 << 14
Arrays: TypeAlias = tuple[NDArray[Any], ...]


class RowBuffers:
    """One array a column, of ``ROWS`` rows, reused from call to call.

    The kernel writes into them and the rows are copied out: fresh arrays for every chunk cost more
    in page faults.
    """

    def __init__(self, *kinds: type[np.generic]) -> None:
        self._arrays: Arrays = tuple(np.empty(ROWS, kind) for kind in kinds)

    def fill(
        self, split: Callable[..., tuple[int, int]], *before: object, after: tuple[object, ...] = ()
    ) -> tuple[Arrays, int]:
        """Call ``split(*before, *arrays, at, *after)`` until it leaves rows of the arrays unused.

        ``split`` returns how many rows it wrote and the offset it reached. Returns all rows and
        the last offset.
        """
        views = tuple(array.data for array in self._arrays)
        parts: list[Arrays] = []
        at = 0
        while True:
            rows, at = split(*before, *views, at, *after)
            parts.append(tuple(array[:rows].copy() for array in self._arrays))
            if rows < ROWS:
                break
        if len(parts) == 1:
            return parts[0], at
        return tuple(map(np.concatenate, zip(*parts, strict=True))), at
