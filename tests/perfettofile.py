"""Reads a Perfetto trace with the official protos, as simply as can be."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

from tests.exports import carried


def annotated(value: Any) -> Any:
    """Return an argument as its annotation has it: no NUL, at which a text would end."""
    value = carried(value)
    return value.replace("\0", "\\x00") if isinstance(value, str) else value


class Perfetto:
    """What Perfetto's own protos read of a trace, resolved as its trace processor does."""

    def __init__(self, data: bytes) -> None:
        trace = perfetto.Trace.FromString(data)
        self.tracks: dict[int, Any] = {}
        self.events: list[tuple[int, int, Any, str]] = []
        names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        assert trace.packet[0].sequence_flags == 1  # SEQ_INCREMENTAL_STATE_CLEARED
        self.clocks = [one for packet in trace.packet for one in packet.clock_snapshot.clocks]
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            names.update((one.iid, one.name) for one in packet.interned_data.event_names)
            fresh = packet.interned_data.debug_annotation_names
            self._arguments.update((one.iid, one.name) for one in fresh)
            if packet.HasField("track_descriptor"):
                track = packet.track_descriptor
                assert track.uuid not in self.tracks
                assert not track.parent_uuid or track.parent_uuid in self.tracks
                self.tracks[track.uuid] = track
            if packet.HasField("track_event"):
                one = packet.track_event
                assert one.track_uuid in self.tracks
                name = names[one.name_iid] if one.name_iid else ""
                self.events.append((packet.timestamp, one.track_uuid, one, name))

    def args(self, one: Any) -> dict[str, Any]:
        found = {}
        for annotation in one.debug_annotations:
            kind = annotation.WhichOneof("value")
            found[self._arguments[annotation.name_iid]] = getattr(annotation, kind)
        return found

    def of(self, kind: str) -> list[tuple[int, int, Any, str]]:
        number = perfetto.TrackEvent.Type.Value(f"TYPE_{kind}")
        return [one for one in self.events if one[2].type == number]

    def slices(self) -> list[tuple[int, int, str]]:
        """Begin, end and name of each slice: they must nest on every track."""
        found = []
        lanes: dict[int, list[tuple[int, Any, str]]] = defaultdict(list)
        for time_ns, track, one, name in sorted(self.events, key=lambda one: one[0]):
            if one.type == perfetto.TrackEvent.TYPE_SLICE_BEGIN:
                assert not lanes[track], "slices overlap on one track"
                lanes[track].append((time_ns, one, name))
            elif one.type == perfetto.TrackEvent.TYPE_SLICE_END:
                begin, _, named = lanes[track].pop()
                found.append((begin, time_ns, named))
        assert not any(lanes.values())
        return found
