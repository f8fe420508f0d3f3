"""Spark reads an export to Parquet as one table. Its packages are kept in ``build/spark``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exports import BEGIN, DECLARED, EXTREME, Case
from tests.needs import program
from tests.packages import TOP
from tests.running import Qtctl

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def python() -> Path:
    """Return a Python that has pyspark, which is no dependency of the other tests: it is large."""
    program("java", "default-jre-headless")
    folder = TOP / "build" / "spark"
    inside = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(inside), "-m", "pip", "install", "-q", "--no-compile", "pyspark>=4"],
    ):
        subprocess.run(command, check=True)
    return inside


@pytest.fixture
def extreme(tmp_path: Path) -> Iterator[Case]:
    with Qtctl(tmp_path / "home") as run:
        yield Case(run, tmp_path, BEGIN + EXTREME, DECLARED)


def read(python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("PYTHON")},
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    script = Path(__file__).with_name("spark_reader.py")
    return subprocess.run(
        [str(python), str(script), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answered(python: Path, folder: Path) -> Any:
    ran = read(python, folder)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_spark_reads_a_whole_export(extreme: Case, python: Path) -> None:
    found = answered(python, extreme.export("parquet"))
    assert list(found["types"].items()) == [
        ("time_ns", "bigint"),
        ("clock", "string"),
        ("tid", "int"),
        ("pid", "bigint"),
        ("guest_name", "string"),
        ("run", "int"),
        ("thread", "string"),
        ("backend", "string"),
        ("file", "string"),
        ("args", "string"),
        ("raw", "string"),
        ("guest", "int"),
        ("event", "string"),
        ("time", "string"),
    ]
    *records, _ = extreme.records()
    assert len(found["rows"]) == len(records)
    events = [row for row in found["rows"] if row["event"] != "notes"]
    known = sorted((row["event"], row["time_ns"]) for row in events)
    assert known == sorted((one["name"], one["time_ns"]) for one in extreme.events())
    numbers = {json.loads(row["args"])["u"] for row in events if "u" in (row["args"] or "")}
    assert max(numbers) == 2**64 - 1
    assert {row["raw"] for row in events} == {None, "0500000000000000"}


def test_spark_reads_the_folder_of_an_event_and_no_mixture(extreme: Case, python: Path) -> None:
    out = extreme.export("parquet-typed")
    found = answered(python, out / "event=odd")
    assert {name: found["types"][name] for name in ("u", "i", "s", "event_")} == {
        "u": "decimal(20,0)",
        "i": "bigint",
        "s": "string",
        "event_": "bigint",
    }
    assert sorted(row["u"] or 0 for row in found["rows"])[-1] == 2**64 - 1
    ran = read(python, out)
    assert ran.returncode != 0
    assert "READ-ONE-EVENT-FOLDER" in ran.stderr
