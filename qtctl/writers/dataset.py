"""A data set of Parquet files that grows: several guests and hosts may write to one at once.

``host=NAME/guest=NAME/event=NAME/hour=HOUR/part-WRITER-N.parquet``, below a folder of this machine
or a prefix of an object store (``s3://BUCKET/PREFIX``, by pyarrow's file systems). A file is there
when it is complete: locally it has another name until then, and a store shows no object before.
All files have the columns ``COLUMNS``; ``MARKER`` says that the folder is a data set.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq

from qtctl.errors import QtctlError, UsageError
from qtctl.model import Clock
from qtctl.recordings.data_sets import MARKER, store_uri
from qtctl.records.arrow import EVENTS, LINES, NOTES, lines_rows, notes_rows, object_rows
from qtctl.records.batch import Batch
from qtctl.records.columns import readable
from qtctl.records.items import Item
from qtctl.records.schema import to_object
from qtctl.text.style import counted
from qtctl.writers.parquet import (
    HOUR_NS,
    event_folder,
    fitted,
    folder_name,
    hour_words,
    plain,
)

_FORMAT = {"format": "qtctl data set", "version": 1}
_ROWS = pa.schema(
    EVENTS.field(name)
    for name in ("time_ns", "clock", "tid", "pid", "run", "thread", "backend", "args", "raw")
)
COLUMNS = plain(_ROWS)
"""``args`` is a JSON object, ``raw`` what could not be read, or a line that is no event."""
KEYS = pa.schema([(name, pa.string()) for name in ("host", "guest", "event", "hour")])
PART_S = 60.0
PART_BYTES = 64 << 20
_GROUP_BYTES = 8 << 20
_HELD_BYTES = 64 << 20
_OPEN_FILES = 64


class DataSetPlace(NamedTuple):
    """Where a data set is: a path on a file system. ``whole``: objects appear when complete."""

    text: str
    files: Any
    path: str
    whole: bool

    @classmethod
    def parse(cls, text: str) -> DataSetPlace:
        """Read a folder's path, or ``s3://BUCKET/PREFIX`` and the like.

        Raises:
            UsageError: it is no such place, or pyarrow has no such file system.
        """
        uri = store_uri(text)
        if uri is None:
            if not text or "://" in text:
                raise UsageError(
                    f"{text!r} is no place of a data set", hint="a folder, or s3://..."
                )
            return cls(text, pa.fs.LocalFileSystem(), str(Path(text).absolute()), False)
        try:
            files, path = pa.fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{uri}: {_why(error)}", hint="s3://BUCKET/PREFIX") from error
        if not path.strip("/"):
            raise UsageError(f"{uri} names no bucket", hint="s3://BUCKET/PREFIX")
        return cls(uri, files, path.rstrip("/"), True)

    def holds_data_set(self) -> bool:
        """Return whether a data set of qtctl is there.

        Raises:
            QtctlError: it cannot be read, or a later qtctl wrote it.
        """
        try:
            with self.files.open_input_stream(f"{self.path}/{MARKER}") as file:
                found = json.loads(file.read())
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return False
        except (OSError, ValueError) as error:
            raise QtctlError(f"cannot read {self.text}: {_why(error)}") from error
        if not isinstance(found, dict) or {**found, **_FORMAT} != found:
            raise UsageError(f"{self.text} is no data set that this qtctl knows: {MARKER} differs")
        return True

    def prepare(self) -> None:
        """Make the data set, or check that there is one.

        Raises:
            UsageError: other files are there.
            QtctlError: it cannot be read or written.
        """
        if self.holds_data_set():
            return
        try:
            inside = pa.fs.FileSelector(self.path, allow_not_found=True)
            others = [info.base_name for info in self.files.get_file_info(inside)]
            # Another writer may have begun at the same moment.
            if others and not self.holds_data_set():
                raise UsageError(
                    f"{self.text} holds {readable(others[0])!r} and is no data set of qtctl",
                    hint="a new folder, or one that an earlier --parquet made",
                )
            if not self.whole:
                Path(self.path).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.write(MARKER, json.dumps({**_FORMAT, "columns": COLUMNS.names}).encode())
        except (OSError, pa.ArrowException) as error:
            raise QtctlError(f"cannot write to {self.text}: {_why(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write a small file at once."""
        begun = name if self.whole else f".{uuid.uuid4().hex}"
        with self.files.open_output_stream(f"{self.path}/{begun}") as file:
            file.write(content)
        if begun != name:
            self.files.move(f"{self.path}/{begun}", f"{self.path}/{name}")

    def dataset(self) -> Any:
        """Return all that is there as a data set of pyarrow."""
        partitioning = pa.dataset.HivePartitioning(KEYS, segment_encoding="uri")
        return pa.dataset.dataset(
            self.path,
            pa.schema([*COLUMNS, *KEYS]),
            format="parquet",
            filesystem=self.files,
            partitioning=partitioning,
        )


def _why(error: Exception) -> str:
    return readable(getattr(error, "strerror", None) or str(error).partition("\n")[0])


@dataclass(slots=True, eq=False)
class _OpenPart:
    """A file that is being written: rows that wait, and the file once some were written."""

    folder: str
    name: str
    began_s: float
    rows: list[Any] = field(default_factory=list)
    held: int = 0
    file: Any = None
    writer: Any = None


class DataSetWriter:
    """Writes items into a data set; ``records`` and ``size`` count what is in complete files.

    A file is completed after a minute or with 64 MiB. At most 64 MiB of rows are kept. ``guest`` is
    the name of the guest of records that name none.

    Raises:
        UsageError: other files are at the place.
        QtctlError: it cannot be written; from all methods.
    """

    def __init__(self, place: DataSetPlace, guest: str) -> None:
        self.place = place
        self.records = self.size = self.files = 0
        self.problem = ""
        self.dropped = 0
        self._guest = guest
        self._host = socket.gethostname()
        self._id = uuid.uuid4().hex[:12]
        self._number = 0
        self._parts: dict[tuple[str, ...], _OpenPart] = {}
        self._waiting = 0
        self._failed = False
        self._lock = threading.Lock()
        place.prepare()

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        with self._lock:
            self._write(item)

    def _write(self, item: Item) -> None:
        if not isinstance(item, Batch):
            row = notes_rows([to_object(item)], NOTES)
            made = fitted(row, _ROWS, {"args": row.column("note")})
            guest = getattr(item, "guest", None) or self._guest
            self._add(self._host, guest, "notes", made, since_boot=False)
            return
        since_boot = item.clock is Clock.MONOTONIC
        for origin, batch in item.by_process():
            host, guest = origin.host or self._host, origin.guest or self._guest
            for event in batch.groups():
                if event < 0:
                    lines = lines_rows(batch, LINES)
                    name, rows = "lines", fitted(lines, _ROWS, {"raw": lines.column("line")})
                else:
                    name = event_folder(batch.names[event])
                    rows = object_rows(batch, event, _ROWS)
                self._add(host, guest, name, rows, since_boot=since_boot)

    def _add(self, host: str, guest: str, event: str, rows: Any, *, since_boot: bool) -> None:
        hours = rows.column("time_ns").to_numpy() // HOUR_NS
        for hour in np.unique(hours).tolist():
            some = rows if (hours == hour).all() else rows.filter(pa.array(hours == hour))
            key = (host, guest, event, hour_words(hour, since_boot=since_boot))
            part = self._parts.get(key)
            if part is None:
                folder = "/".join(map(folder_name, KEYS.names, map(readable, key)))
                name = f"part-{self._id}-{self._number:06}.parquet"
                self._number += 1
                part = self._parts[key] = _OpenPart(folder, name, time.monotonic())
            part.rows.append(some)
            part.held += some.nbytes
            self._waiting += some.nbytes
            if part.held >= _GROUP_BYTES:
                self._flush(key)
        while self._waiting > _HELD_BYTES:
            self._flush(max(self._parts, key=lambda one: self._parts[one].held))

    def _flush(self, key: tuple[str, ...]) -> None:
        """Write the waiting rows of a part; complete one that is large enough."""
        part = self._parts[key]
        try:
            if part.writer is None:
                self._make_room()
                folder = f"{self.place.path}/{part.folder}"
                if not self.place.whole:
                    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
                begun = part.name if self.place.whole else f".{part.name}.tmp"
                part.file = self.place.files.open_output_stream(f"{folder}/{begun}")
                part.writer = pq.ParquetWriter(part.file, COLUMNS, compression="zstd")
            table = pa.Table.from_batches(part.rows).cast(COLUMNS)
            part.writer.write_table(table)
            self._waiting -= part.held
            self.records += len(table)
            part.rows, part.held = [], 0
            if part.file.tell() >= PART_BYTES:
                self._complete(key)
        except (OSError, pa.ArrowException) as error:
            self._fail(error)

    def _make_room(self) -> None:
        """Complete the oldest open file if there are many."""
        opened = [key for key, part in self._parts.items() if part.writer is not None]
        if len(opened) >= _OPEN_FILES:
            self._complete(min(opened, key=lambda key: self._parts[key].began_s))

    def _complete(self, key: tuple[str, ...]) -> None:
        """Write the rest of a part and give its file its name."""
        if self._parts[key].rows:
            self._flush(key)
        part = self._parts.pop(key, None)
        if part is None or part.writer is None:
            return
        try:
            part.writer.close()
            self.size += part.file.tell()
            part.file.close()
            if not self.place.whole:
                folder = f"{self.place.path}/{part.folder}"
                self.place.files.move(f"{folder}/.{part.name}.tmp", f"{folder}/{part.name}")
            self.files += 1
        except (OSError, pa.ArrowException) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        raise QtctlError(f"cannot write to {self.place.text}: {_why(error)}") from error

    def tick(self) -> None:
        """Complete the files that began a minute ago; call it about once a second."""
        now = time.monotonic()
        with self._lock:
            for key in [key for key, part in self._parts.items() if now - part.began_s >= PART_S]:
                if not self._failed:
                    self._complete(key)

    def end(self, _: float = 0.0) -> None:
        """Complete all files."""
        with self._lock:
            for key in list(self._parts):
                if not self._failed:
                    self._complete(key)

    def account(self) -> Mapping[str, Any]:
        """Return what was written."""
        return {
            "parquet": self.place.text,
            "files": self.files,
            "rows": self.records,
            "bytes": self.size,
        }

    def words(self) -> str:
        """Return what was written, in words."""
        files = counted(self.files, "file")
        return f"{counted(self.records, 'row')} in {files} in {self.place.text}"

    def close(self) -> None:
        """Leave unfinished files without a name that readers see."""
