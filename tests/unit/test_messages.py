"""Messages of a monitor, pretty-printed or not, are joined whole."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qtctl.monitor.messages import MessageLines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.tuples(st.dictionaries(st.text(), VALUES), st.booleans())))
def test_every_message_comes_whole(messages: list[tuple[dict[str, Any], bool]]) -> None:
    lines = MessageLines()
    found = []
    for message, pretty in messages:
        text = json.dumps(message, indent=4 if pretty else None)
        found += [lines.add(f"{line}\r\n".encode()) for line in text.splitlines()]
    whole = [one for one in found if one is not None]
    assert [json.loads(one) for one in whole] == [message for message, _ in messages]
    assert all(one.count(b"\n") == 1 for one in whole)


def test_a_message_without_an_end_is_returned_at_the_limit() -> None:
    lines = MessageLines()
    assert lines.add(b"{\n") is None
    part = b' "x' + b"y" * (1 << 20) + b'",\n'
    returned = [lines.add(part) is not None for _ in range(16)]
    assert returned == [False] * 15 + [True]
    assert lines.add(b"{}\n") == b"{}\n"
