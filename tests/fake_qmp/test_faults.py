"""Each fault does what its name says, seen through a raw socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from . import CONTROLS, FAULTS, FakeQmp
from .faults import FaultError, parse

_SECONDS = 60
_LINE_LIMIT = 1 << 25


class Client:
    """A raw client that never waits without an end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self) -> bytes:
        """Read one line, empty at the end of the connection."""
        return await asyncio.wait_for(self.reader.readline(), _SECONDS)

    async def rest(self) -> bytes:
        """Read until the other side hangs up."""
        return await asyncio.wait_for(self.reader.read(), _SECONDS)

    async def message(self) -> Any:
        """Read one line of JSON."""
        return json.loads(await self.line())

    def send(self, command: str, **arguments: object) -> None:
        """Send a command under the id 1."""
        request = {"execute": command, "arguments": arguments, "id": 1}
        self.writer.write(json.dumps(request).encode())

    async def negotiate(self) -> None:
        """Read the greeting and negotiate."""
        assert "QMP" in await self.message()
        self.send("qmp_capabilities")
        assert await self.message() == {"return": {}, "id": 1}


@asynccontextmanager
async def connect(fake: FakeQmp) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(fake.address, limit=_LINE_LIMIT)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def faulty(*faults: str) -> AsyncIterator[tuple[FakeQmp, Client]]:
    async with FakeQmp(backends=["nop"], faults=faults) as fake, connect(fake) as client:
        yield fake, client


async def assert_silent(fake: FakeQmp, client: Client, settled: Callable[[], bool]) -> None:
    """Let the fake come to rest and check that it has said nothing."""
    async with asyncio.timeout(_SECONDS):
        while not settled():  # noqa: ASYNC110
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.05)


async def test_no_greeting() -> None:
    async with faulty("no-greeting") as (fake, client):
        await assert_silent(fake, client, lambda: fake.connections == 1)


async def test_late_greeting() -> None:
    began = time.monotonic()
    async with faulty("late-greeting:0.2") as (_, client):
        await client.negotiate()
    assert time.monotonic() - began >= 0.2


async def test_greeting_byte_by_byte_is_whole_in_the_end() -> None:
    async with faulty("greeting-byte-by-byte") as (_, client):
        await client.negotiate()


async def test_garbage_greeting_is_no_json() -> None:
    async with faulty("garbage-greeting") as (_, client):
        with pytest.raises(ValueError, match="Expecting value"):
            await client.message()


async def test_wrong_greeting_is_json_but_not_qmp() -> None:
    async with faulty("wrong-greeting") as (_, client):
        assert await client.message() == {"hello": "world"}


async def test_hangup_at_connect() -> None:
    async with faulty("hangup-at-connect") as (_, client):
        assert await client.rest() == b""


async def test_hangup_after_greeting() -> None:
    async with faulty("hangup-after-greeting") as (_, client):
        assert (await client.rest()).count(b"\n") == 1


async def test_refuse_negotiation() -> None:
    async with faulty("refuse-negotiation") as (_, client):
        await client.line()
        client.send("qmp_capabilities")
        assert "error" in await client.message()
        client.send("query-name")
        assert "Expecting capabilities" in (await client.message())["error"]["desc"]


async def test_hangup_before_reply_has_run_the_command() -> None:
    async with faulty("hangup-before-reply:stop") as (fake, client):
        await client.negotiate()
        client.send("stop")
        assert b"return" not in await client.rest()
        assert not fake.machine.running


async def test_hangup_mid_reply() -> None:
    async with faulty("hangup-mid-reply") as (_, client):
        await client.negotiate()
        client.send("query-name")
        assert await client.rest() == b'{"return": {"name":'


async def test_no_reply_does_not_run_the_command() -> None:
    async with faulty("no-reply:stop") as (fake, client):
        await client.negotiate()
        client.send("stop")
        await assert_silent(fake, client, lambda: len(fake.commands) == 2)
        assert fake.machine.running


async def test_applied_but_unanswered() -> None:
    async with faulty("applied-but-unanswered") as (fake, client):
        await client.negotiate()
        client.send("trace-event-set-state", name="monitor_suspend", enable=True)
        await assert_silent(fake, client, lambda: fake.events_enabled() == ["monitor_suspend"])
        client.send("query-name")
        assert await client.message() == {"return": {"name": "demo"}, "id": 1}


async def test_late_reply() -> None:
    async with faulty("late-reply:0.2:query-name") as (_, client):
        await client.negotiate()
        began = time.monotonic()
        client.send("query-name")
        assert "return" in await client.message()
        assert time.monotonic() - began >= 0.2


async def test_error_reply_does_not_run_the_command() -> None:
    async with faulty("error-reply:stop") as (fake, client):
        await client.negotiate()
        client.send("stop")
        assert (await client.message())["id"] == 1
        assert fake.machine.running


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("wrong-id", {"return": {"name": "demo"}, "id": "not-the-id-you-sent"}),
        ("missing-id", {"return": {"name": "demo"}}),
        ("reply-not-object", [1, 2]),
        ("reply-not-object:number", 42),
        ("split-json", {"return": {"name": "demo"}, "id": 1}),
        ("control-characters", {"return": {"name": "demo" + CONTROLS}, "id": 1}),
        (
            "id-less-error",
            {"error": {"class": "GenericError", "desc": "a fault the test asked for"}},
        ),
    ],
)
async def test_spoilt_replies(fault: str, wanted: object) -> None:
    async with faulty(fault) as (_, client):
        await client.negotiate()
        client.send("query-name")
        assert await client.message() == wanted


async def test_deep_json_breaks_a_recursive_parser() -> None:
    async with faulty("deep-json") as (_, client):
        await client.negotiate()
        client.send("query-name")
        with pytest.raises(RecursionError):
            await client.message()


async def test_huge_line() -> None:
    async with faulty("huge-line") as (_, client):
        await client.negotiate()
        client.send("query-name")
        assert len(await client.line()) > 12_000_000


async def test_invalid_utf8() -> None:
    async with faulty("invalid-utf8") as (_, client):
        await client.negotiate()
        client.send("query-name")
        with pytest.raises(UnicodeDecodeError):
            await client.message()


async def test_event_flood() -> None:
    async with faulty("event-flood:500") as (_, client):
        await client.negotiate()
        numbers = [(await client.message())["data"]["number"] for _ in range(500)]
        assert numbers == list(range(500))
        client.send("query-name")
        assert "return" in await client.message()


@pytest.mark.parametrize("member", ["version", "qemu", "major", "capabilities"])
async def test_greeting_without_a_member(member: str) -> None:
    async with faulty(f"greeting-without:{member}") as (_, client):
        greeting = await client.message()
        assert "QMP" in greeting
        assert f'"{member}"' not in json.dumps(greeting)


async def test_odd_answers() -> None:
    async with faulty("odd:list:query-name", "id-list:query-status*1") as (_, client):
        await client.negotiate()
        client.send("query-name")
        assert (await client.message())["return"] == [[]]
        client.send("query-status")
        assert (await client.message())["id"] == [1]


async def test_huge_number() -> None:
    async with faulty("huge-number:query-name") as (_, client):
        await client.negotiate()
        client.send("query-name")
        with pytest.raises(ValueError, match="digits"):
            await client.message()


async def test_freeze_answers_n_commands() -> None:
    async with faulty("freeze:2") as (fake, client):
        await client.negotiate()
        client.send("query-name")
        assert "return" in await client.message()
        client.send("query-name")
        await assert_silent(fake, client, lambda: len(fake.commands) == 2)


async def test_a_fault_may_be_limited_in_number_and_replaced() -> None:
    async with faulty("error-reply:query-name*1") as (fake, client):
        await client.negotiate()
        for wanted in ("error", "return"):
            client.send("query-name")
            assert wanted in await client.message()
        fake.set_faults("missing-id")
        client.send("query-name")
        assert "id" not in await client.message()


@pytest.mark.parametrize("text", ["nosuch", "late-reply", "no-greeting:1", "freeze:1:2"])
def test_a_fault_spelled_wrong_is_refused(text: str) -> None:
    with pytest.raises(FaultError):
        parse(text)


def test_every_fault_is_tested_here() -> None:
    from pathlib import Path

    text = Path(__file__).read_text()
    assert [name for name in FAULTS if f'"{name}' not in text] == []
