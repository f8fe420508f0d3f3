"""Figures of a stream as metrics of OTLP, by its own classes: few, every few seconds."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from qtctl.analysis.meters import BOUNDS_NS, Measured, Meters
from qtctl.records.columns import readable


def metrics(
    meters: Meters, dropped: int, guest: str, began_ns: int, now_ns: int
) -> Iterable[Metric]:
    """Yield the figures of a guest up to ``now_ns``, all counted since ``began_ns`` (Unix, ns).

    ``dropped`` records were read and not taken by the receiver.
    """

    def total(name: str, unit: str, rows: Iterable[tuple[int, dict[str, str]]]) -> Metric:
        points = [
            NumberDataPoint(
                start_time_unix_nano=began_ns,
                time_unix_nano=now_ns,
                as_int=number,
                attributes=_attributes(labels),
            )
            for number, labels in rows
        ]
        found = Sum(
            data_points=points,
            is_monotonic=True,
            aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
        )
        return Metric(name=name, unit=unit, sum=found)

    records = [one for one in meters.records() if one.guest == guest]
    losses = [one for one in meters.losses() if one.guest == guest]
    yield total("qtctl.records", "{record}", ((r.records, {"event": r.event}) for r in records))
    yield total("qtctl.record_bytes", "By", ((r.size, {"event": r.event}) for r in records))
    yield total("qtctl.lost", "{record}", ((one.records, {}) for one in losses))
    yield total("qtctl.unknown_losses", "{loss}", ((one.unknown, {}) for one in losses))
    yield total("qtctl.dropped", "{record}", [(dropped, {})])
    points = [_point(one, began_ns, now_ns) for one in meters.latencies() if one.guest == guest]
    if points:
        yield Metric(
            name="qtctl.latency",
            unit="s",
            histogram=Histogram(
                data_points=points, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE
            ),
        )


def _point(one: Measured, began_ns: int, now_ns: int) -> HistogramDataPoint:
    below = one.cumulated()
    counts = [high - low for low, high in zip([0, *below], [*below, one.spans.count], strict=True)]
    return HistogramDataPoint(
        start_time_unix_nano=began_ns,
        time_unix_nano=now_ns,
        count=one.spans.count,
        sum=one.spans.total / 1e9,
        bucket_counts=counts,
        explicit_bounds=[bound / 1e9 for bound in BOUNDS_NS],
        attributes=_attributes({"start": one.pair.start, "end": one.pair.end}),
    )


def _attributes(labels: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=k, value=AnyValue(string_value=readable(v))) for k, v in labels.items()]
