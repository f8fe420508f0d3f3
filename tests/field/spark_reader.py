"""Reads a folder of Parquet files with Spark and prints it as JSON; it runs in its own Python."""

from __future__ import annotations

import json
import sys

from pyspark.sql import SparkSession


def main(folder: str) -> None:
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    frame = session.read.parquet(folder)
    rows = [row.asDict() for row in frame.collect()]
    print(json.dumps({"types": dict(frame.dtypes), "rows": rows}, default=int))
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
