"""Data sets of 100 guests, in engines that scale, and in an object store.

Spark's packages are kept in ``build/spark``, those of moto, an S3 server, in ``build/moto``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs
import pytest

from tests.field.test_spark import answered, python
from tests.fleet import fleet
from tests.packages import TOP
from tests.running import Qtctl, eventually

__all__ = ["python"]

pytestmark = pytest.mark.timeout(1800)

DASK = """
import json, sys
import dask.dataframe
frame = dask.dataframe.read_parquet(sys.argv[1])
frame = frame.astype({name: str for name in ("host", "guest", "event")})
found = frame.groupby(["host", "guest", "event"]).size().compute()
print(json.dumps([[*key, int(count)] for key, count in found.items()]))
"""


def test_spark_finds_what_was_written(tmp_path: Path, python: Path) -> None:
    sums = fleet(str(tmp_path / "set"))
    found = answered(python, tmp_path / "set")
    keys = ((row["host"], row["guest"], row["event"]) for row in found["rows"])
    assert Counter(key for key in keys if key[2] != "notes") == sums
    assert {found["types"][name] for name in ("host", "guest", "event", "hour")} == {"string"}


def test_dask_finds_what_was_written(tmp_path: Path) -> None:
    sums = fleet(str(tmp_path / "set"))
    words = [sys.executable, "-c", DASK, str(tmp_path / "set")]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)
    found = {(a, b, c): n for a, b, c, n in json.loads(ran.stdout) if n and c != "notes"}
    assert found == sums


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run an S3 server with a bucket; return the address of a place in it."""
    folder = TOP / "build" / "moto"
    inside = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        words = [str(inside), "-m", "pip", "install", "-q", "--no-compile", "moto[s3,server]"]
        subprocess.run(words, check=True)
        (folder / "ready").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    words = [str(inside), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    try:

        def answers() -> bool:
            with socket.socket() as link:
                return link.connect_ex(("127.0.0.1", port)) == 0

        eventually(answers, "the S3 server answers")
        options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        files, _ = pyarrow.fs.FileSystem.from_uri(f"s3://traces?{options}&allow_bucket_creation=1")
        files.create_dir("traces")
        yield f"s3://traces/disks?{options}"
    finally:
        server.kill()
        server.wait()


def test_an_object_store_holds_one(bucket: str, tmp_path: Path) -> None:
    sums = fleet(bucket, 20, 1)
    with Qtctl(tmp_path / "home") as run:
        ran = run("count", "--from", bucket, "--by", "guest", "--json", limit=None).said(0)
        found = {one["value"]: one["count"] for one in json.loads(ran.out)["groups"]}
        assert sum(found.values()) == sums.total()
        sql = "SELECT count(*) FROM events WHERE guest = 'vm4'"
        assert run("query", sql, bucket, limit=None).said(0).out == "10\n"
        missing = bucket.replace("traces/disks", "none/disks")
        run("count", "--from", missing, limit=None).said(2, "holds no data set")
