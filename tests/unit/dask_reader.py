"""Reads Parquet files with a local Dask cluster: a program, for its workers are processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dask.dataframe
from distributed import Client, LocalCluster


def main(pattern: str, name: str) -> None:
    top, _, rest = pattern.partition("/guest=")
    paths = sorted(map(str, Path(top).glob(f"guest={rest}")))
    cluster = LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    with cluster, Client(cluster):  # type: ignore[no-untyped-call]
        frame = dask.dataframe.read_parquet(paths)
        times = sorted(frame["time_ns"].compute().tolist())
        event = frame["event"].unique().compute().tolist()
    assert event == [name], event
    print(json.dumps(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
