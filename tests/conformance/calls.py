"""Calls beyond the captured ones that real QEMUs and the fake are asked, in this order."""

from __future__ import annotations

import json
from typing import Any

#: ``{dir}`` in a call stands for a folder that QEMU can write to.
Call = str


def call(command: str, **arguments: Any) -> Call:
    """Write one request."""
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return json.dumps({"execute": command, **({"arguments": named} if named else {})})


def hmp(line: str) -> Call:
    """Write one human-monitor line."""
    return call("human-monitor-command", command_line=line)


GET, SET = "trace-event-get-state", "trace-event-set-state"


MORE: tuple[Call, ...] = (
    call("qmp_capabilities"),
    call("qmp_capabilities", enable=[]),
    # How requests may be wrong.
    "[1]",
    "3 ",
    '"text"',
    "{}",
    '{"id": 7}',
    '{"arguments": {}}',
    '{"execute": "query-name", "id": null}',
    '{"execute": "query-name", "id": {"a": [1, 1.5, "\\u00e9\\u007f\\u0001/"]}}',
    '{"execute": 3, "id": 9}',
    '{"execute": "query-name", "bogus": 1}',
    '{"exec-oob": "query-name", "id": 1}',
    '{"exec-oob": "nosuch", "id": 1}',
    '{"exec-oob": "query-name", "execute": "query-name", "id": 1}',
    '{"execute": "query-name", "execute": "query-name"}',
    "nonsense\n",
    '{"a": 1,,}',
    "[}",
    "\x01\n",
    "{'execute': 'query-name'}",
    '  {"execute":\n"query-name"\n}  ',
    call("query-name", x=1),
    call("query-status", arguments=1),
    # Events: names, patterns, types.
    call(GET),
    call(GET, name=None),
    call(GET, name=True),
    call(GET, name="virtio_blk_handle_read", foo=1),
    call(GET, name="virtio_blk_handle_["),
    call(GET, name="*[*"),
    call(GET, name="**blk_handle_rea?"),
    call(GET, name="*_READ"),
    call(GET, name="*blk*read"),
    call(GET, name="virtio_blk_handle_read*"),
    call(GET, name="*?*?*?*virtio_blk_handle_read"),
    call(GET, name="v*_h?ndle_write"),
    call(GET, name="virtio_blk_handle_read", vcpu=0),
    call(GET, name="virtio_blk_handle_read", vcpu="0"),
    call(GET, name="guest_user_*", vcpu=0),
    call(GET, name="guest_cpu_enter", vcpu=99),
    call(GET, name="nosuch", vcpu=99),
    call(SET),
    call(SET, name=3, enable="x"),
    call(SET, enable=True),
    call(SET, name="a*", enable=True, ignore_unavailable=3),
    call(SET, name="guest_cpu_enter", enable=True, vcpu=0),
    call(GET, name="guest_cpu_enter"),
    call(SET, name="guest_cpu_enter", enable=False, vcpu=9),
    call(SET, name="*", enable=True, ignore_unavailable=True),
    call(GET, name="qxl_io_write_v?a*"),
    call(GET, name="virtio_blk_*"),
    call(SET, name="*", enable=False, ignore_unavailable=True),
    call(SET, name="qxl_io*", enable=True),
    call(GET, name="qxl_io*"),
    # Queries.
    call("qom-list", path="/"),
    call("qom-list", path="/nosuch"),
    call("qom-get", path="/machine", property="type"),
    call("qom-get", path="/machine", property="nosuch"),
    call("query-command-line-options", option="nosuch"),
    call("query-iothreads"),
    call("query-events"),
    call("stop"),
    call("stop"),
    call("query-status"),
    hmp("info status"),
    call("cont"),
    call("cont"),
    call("query-status"),
    # The human monitor: words.
    call("human-monitor-command"),
    call("human-monitor-command", command_line=3),
    call("human-monitor-command", command_line="info version", cpu_index=9),
    hmp(""),
    hmp("  info   version   "),
    hmp("info version x"),
    hmp("info nosuch"),
    hmp("info name"),
    hmp("info uuid"),
    hmp("info kvm"),
    hmp("info cpus"),
    hmp("info status"),
    hmp("help nosuch"),
    hmp("help info version"),
    hmp("help info trace-events"),
    hmp("help info nosuch"),
    # The human monitor: events.
    hmp("trace-event"),
    hmp("trace-event x"),
    hmp("trace-event a b c d"),
    hmp('trace-event "virtio_blk_handle_read" on'),
    hmp("info trace-events virtio_blk_handle_*"),
    hmp("trace-event virtio_blk_handle_read off extra"),
    hmp("trace-event virtio_blk_handle_read off 0"),
    hmp("trace-event guest_cpu_enter on 99"),
    hmp("trace-event guest_cpu_enter on 0"),
    # Not asked: whether that is on. A vCPU takes its own state over some time later.
    hmp("info trace-events virtio_blk_handle_read 0"),
    hmp("info trace-events qxl_io*"),
    hmp("info trace-events nosuch*"),
    hmp("info trace-events a b"),
    hmp("trace-event qxl_io_write_vga on"),
    hmp("info trace-events qxl_io_write_vga"),
    hmp("trace-event * off"),
    # The human monitor: log.
    hmp("log"),
    hmp("log in_asm,bogus"),
    hmp("log trace:"),
    hmp("log trace:nosuch"),
    hmp("log trace:nosuch*"),
    hmp("log unimp,guest_errors"),
    hmp("log none"),
    hmp("logfile {dir}/bad%s"),
    hmp("logfile {dir}/bad%d%d"),
    hmp("logfile {dir}/bad%%"),
    hmp("logfile {dir}"),
    hmp("log none"),
    hmp("logfile {dir}/a.log"),
    hmp("logfile {dir}/two words"),
    hmp('logfile "{dir}/two words"'),
    hmp('logfile "{dir}/unterminated'),
    hmp('logfile "{dir}/a\\"b"'),
    hmp('logfile "{dir}/a\\tb"'),
    hmp('logfile ""'),
    hmp("log none"),
    hmp("logfile {dir}/p%d.log"),
    hmp("log none"),
    # The human monitor: the simple backend's file.
    hmp("trace-file"),
    hmp("trace-file status"),
    hmp("trace-file set {dir}/t.bin"),
    hmp("trace-file"),
    hmp("trace-file on"),
    hmp("trace-file"),
    hmp("trace-file set {dir}/u.bin"),
    hmp("trace-file"),
    hmp("trace-file set"),
    hmp("trace-file on x"),
    hmp("trace-file set a b"),
    hmp("trace-file set {dir}/none/v.bin"),
    hmp("trace-file"),
    hmp("trace-file off"),
    hmp("trace-file"),
    call("system_reset"),
    call("quit"),
)
