"""The table of export formats. To add one, write a module and add a row."""

from __future__ import annotations

import importlib
from typing import Any, Literal, NamedTuple


class Format(NamedTuple):
    """An export format.

    ``module`` is imported only when the format is used, and defines what ``base`` says of
    ``makes``: ``lines`` (to stdout or a file), ``file``, ``folder``, or ``endpoint`` (it is sent).
    ``needs`` are the modules of ``extra``, one of qtctl's extras, that it imports. ``pairs``: it
    supports ``--pair``.
    """

    name: str
    summary: str
    module: str
    makes: Literal["lines", "file", "folder", "endpoint"]
    needs: tuple[str, ...] = ()
    extra: str = "analysis"
    pairs: bool = False

    def load(self) -> Any:
        """Import and return the format's module."""
        return importlib.import_module(self.module)


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("ndjson", "the objects of replay --ndjson", "qtctl.writers.ndjson", "lines"),
        Format(
            "csv",
            "the same as columns; the arguments of one event have a column each, those of "
            "several are JSON in args",
            "qtctl.writers.csv",
            "lines",
        ),
        Format(
            "perfetto",
            "for ui.perfetto.dev; X_submit and X_complete and their like are slices, as is each "
            "--pair",
            "qtctl.writers.perfetto.writer",
            "file",
            pairs=True,
        ),
        Format(
            "parquet",
            "one data set for DuckDB, Polars, pandas, Spark (folders guest=, event=, time=), with "
            "the arguments as JSON in args",
            "qtctl.writers.parquet",
            "folder",
            needs=("pyarrow",),
        ),
        Format(
            "parquet-typed",
            "a data set for each event (folders event=, guest=, time=), with a typed column an "
            "argument",
            "qtctl.writers.parquet_typed",
            "folder",
            needs=("pyarrow",),
        ),
        Format("ctf", "CTF 1.8, for babeltrace2 and Trace Compass", "qtctl.writers.ctf", "folder"),
        Format(
            "otlp",
            "sends records as logs, each --pair as spans, and losses as metrics to a receiver of "
            "OpenTelemetry's OTLP over HTTP, at ENDPOINT",
            "qtctl.writers.otlp.writer",
            "endpoint",
            needs=("opentelemetry.proto",),
            extra="otlp",
            pairs=True,
        ),
    )
}
