"""What says that a folder is a data set of Parquet files; quick to import."""

from __future__ import annotations

import re
from pathlib import Path

MARKER = "_qtctl-data-set.json"
"""Readers of data sets pass over names that begin with an underscore."""
STORES = ("s3", "gs", "gcs", "abfs", "abfss")
"""Object stores: the schemes that pyarrow has."""


def store_uri(text: str) -> str | None:
    """Return the URI of an object store; None for anything else.

    Its double slash may have become one, as in a path.
    """
    found = re.fullmatch(r"(\w+):/{1,2}(?!/)(.*)", text, re.DOTALL)
    return f"{found[1]}://{found[2]}" if found is not None and found[1] in STORES else None


def may_be_data_set(path: Path) -> bool:
    """Return whether a path leads to a data set, or into an object store, which is not asked."""
    return store_uri(str(path)) is not None or (path / MARKER).exists()
