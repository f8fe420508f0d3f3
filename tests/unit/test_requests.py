"""Requests are split and parsed as QEMU does; replies get the client's id back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.monitor.requests import (
    LIMIT_BYTES,
    BadRequest,
    Reply,
    Splitter,
    id_of,
    read_reply,
    read_request,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab'\"\\{"), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["execute", "id", "arguments"]), values)


def split(*pieces: bytes) -> list[bytes | str]:
    splitter = Splitter()
    found = [message for piece in pieces for message in splitter.feed(piece)]
    return [str(one) if isinstance(one, BadRequest) else one for one in found]


@given(st.lists(objects, max_size=4), st.sampled_from(["", " ", "\n", "\r\n"]), st.data())
def test_messages_are_split_at_any_chunking(
    sent: list[dict[str, Any]], between: str, data: st.DataObject
) -> None:
    stream = between.join(map(json.dumps, sent)).encode()
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    assert [json.loads(one) for one in split(*pieces) if isinstance(one, bytes)] == sent


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"", []),
        (b" \r\n\t", []),
        (b'{"a": "}"}', [b'{"a": "}"}']),
        (b"{'a': '}\"'}", [b"{'a': '}\"'}"]),
        (b'{"a": "\\"}"}', [b'{"a": "\\"}"}']),
        (b"nonsense\n", [b"nonsense"]),
        (b"nonsense", []),
        (b'nonsense{"a": 1}', [b"nonsense", b'{"a": 1}']),
        (b"[}", [b"[}"]),
        (b"{]}", [b"{]", b"}"]),
        (b",:", [b",", b":"]),
        (b'"text"', [b'"text"']),
        (b'"no end\n{"a": 1}', [b'"no end\n', b'{"a": 1}']),
        (b'{"half": ', []),
        (b"\x01\n", [b"\x01"]),
    ],
)
def test_invalid_input_is_split_as_qemu_does(stream: bytes, messages: list[bytes]) -> None:
    assert split(stream) == messages
    assert split(*(bytes([byte]) for byte in stream)) == messages


def test_limits_are_errors_and_the_next_message_is_parsed() -> None:
    deep = b'{"a":' * 1025
    assert split(deep)[0] == "JSON nesting depth limit exceeded"
    assert split(b"[" * 1024 + b"]" * 1024 + b"{}")[-1] == b"{}"
    long = b'{"a": "' + b"x" * LIMIT_BYTES
    assert split(long, b'"\n{"b": 1}')[0] == "JSON token size limit exceeded"
    stray = b"x" * (1 << 20)
    assert b"".join(one for one in split(stray, b"\n") if isinstance(one, bytes)) == stray


@given(objects)
def test_a_request_is_forwarded_under_another_id(sent: dict[str, Any]) -> None:
    request = read_request(json.dumps(sent).encode())
    passed = json.loads(request.under("qtctl-0a1b2c3d-17"))
    assert passed == {**sent, "id": "qtctl-0a1b2c3d-17"}
    assert request.tag == (json.dumps(sent["id"]).encode() if "id" in sent else None)


def test_a_request_of_a_qtctl_is_known_by_its_id() -> None:
    """So that a qtctl knows its own requests in the trace, also behind a lender."""
    sent = {"execute": "a", "id": id_of("0a1b2c3d", 7)}
    assert read_request(json.dumps(sent).encode()).sender == "0a1b2c3d"
    for other in ("qtctl-7", "qtctl-0a1b2c3-7", "xqtctl-0a1b2c3d-7", "__qmp#00001", 7, None):
        assert read_request(json.dumps({**sent, "id": other}).encode()).sender is None
    assert read_request(b'{"execute": "a"}').sender is None


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"nonsense", "JSON parse error"),
        (b'{"a": 1,,}', "JSON parse error"),
        (b'{"a": 1} {', "JSON parse error"),
        (b'{"a": NaN}', "JSON parse error, invalid keyword 'NaN'"),
        (b'{"a": 1e999}', "JSON parse error"),
        (b'{"a": 1, "a": 2}', "JSON parse error, duplicate key"),
        (b'{"a": "\xff"}', "JSON parse error, invalid UTF-8 sequence in string"),
        (b'{"a": "\\ud800"}', "JSON parse error, invalid escape sequence in string"),
        (b'{"a": "\\uffff"}', "JSON parse error, invalid escape sequence in string"),
        (b'{"a": "b\nc"}', "JSON parse error"),
        (b'{"a": %s}' % (b"9" * 5000), "JSON parse error"),
        (b"[1]", "QMP input must be a JSON object"),
        (b'"text"', "QMP input must be a JSON object"),
        (b"[" * 100_000 + b"]" * 100_000, "JSON nesting depth limit exceeded"),
    ],
)
def test_requests_that_qemu_would_refuse_without_an_id(message: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=f"^{words}"):
        read_request(message)


def test_single_quotes_are_parsed_as_qemu_does() -> None:
    request = read_request(b"""{'execute': "it's", 'id': 'a"b\\'c'}""")
    assert request.members == {"execute": "it's", "id": "a\"b'c"}


@pytest.mark.parametrize("tag", [None, b"1", b'"x"', b'{"a": [1, null]}', b"null"])
@pytest.mark.parametrize(
    ("line", "value"),
    [
        (
            b'{"return": {"id": "qtctl-0a1b2c3d-9"}, "id": "qtctl-0a1b2c3d-5"}\r\n',
            {"return": {"id": "qtctl-0a1b2c3d-9"}},
        ),
        (b'{"id": "qtctl-0a1b2c3d-5", "error": {"class": "a"}}\r\n', {"error": {"class": "a"}}),
        (b'{"return": [], "id":"qtctl-0a1b2c3d-5", "x": 1}\n', {"return": [], "x": 1}),
        (b'{"id": "qtctl-0a1b2c3d-5", "return": {}}\r\n', {"return": {}}),
    ],
)
def test_a_reply_gets_the_clients_id(line: bytes, value: dict[str, Any], tag: bytes | None) -> None:
    reply = read_reply(line)
    assert isinstance(reply, Reply)
    assert reply.issued == "qtctl-0a1b2c3d-5"
    assert reply.returned == ("return" in value)
    back = reply.to(tag)
    assert back.endswith(b"}\r\n")
    expected = value if tag is None else {**value, "id": json.loads(tag)}
    assert json.loads(back) == expected


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n',
        b'{"return": {}, "id": "another"}\r\n',
        b'{"return": ", \\"id\\": \\"qtctl-0a1b2c3d-5\\"}"}\r\n',
        b'{"error": {"class": "a", "desc": "b"}}\r\n',
    ],
)
def test_lines_that_are_no_reply_to_a_forwarded_request(line: bytes) -> None:
    assert read_reply(line) == json.loads(line)
