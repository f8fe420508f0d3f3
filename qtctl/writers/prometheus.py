"""Serve the figures of a stream to Prometheus, by its client library; histograms are classic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from qtctl.analysis.meters import BOUNDS_NS, Measured, Meters
from qtctl.errors import QtctlError
from qtctl.records.columns import readable

Facts = Callable[[], Iterable[Mapping[str, str]]]


class _Figures(Collector):
    """Makes the metrics of a scrape; ``facts`` returns the labels of each guest's own metric."""

    def __init__(self, meters: Meters, facts: Facts) -> None:
        self._meters = meters
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        guest = GaugeMetricFamily("qtctl_guest", "1 for a guest that is followed.")
        for facts in self._facts():
            guest.add_sample("qtctl_guest", {k: readable(v) for k, v in facts.items()}, 1)
        yield guest
        yield from self._records()
        yield _counters(
            "qtctl_lost_records",
            "Records that were lost before they were read.",
            ("guest",),
            (((one.guest,), one.records) for one in self._meters.losses()),
        )
        yield _counters(
            "qtctl_unknown_losses",
            "Losses of which the number of records is not known.",
            ("guest",),
            (((one.guest,), one.unknown) for one in self._meters.losses()),
        )
        yield from self._latencies()

    def _records(self) -> Iterator[Metric]:
        by, found = self._meters.by, self._meters.records()
        labels = ["guest", "event"]
        if by is not None:
            labels.append(by.name + "_" * (by.name in labels))
        keys = [(one.guest, one.event, one.value)[: len(labels)] for one in found]
        yield _counters(
            "qtctl_records",
            "Records that were read.",
            labels,
            zip(keys, (one.records for one in found), strict=True),
        )
        yield _counters(
            "qtctl_record_bytes",
            "Bytes of the records, as QEMU's trace backend wrote them.",
            labels,
            zip(keys, (one.size for one in found), strict=True),
        )

    def _latencies(self) -> Iterator[Metric]:
        labels = ("guest", "start", "end")
        spans = HistogramMetricFamily(
            "qtctl_latency_seconds", "Time from START to its END.", labels=labels
        )
        flying = GaugeMetricFamily("qtctl_in_flight", "STARTs without an END.", labels=labels)
        rest = CounterMetricFamily(
            "qtctl_latency_left_out",
            "Records of pairs that are in no latency, by the reason.",
            labels=(*labels, "reason"),
        )
        for one in self._meters.latencies():
            key = _texts((one.guest, one.pair.start, one.pair.end))
            spans.add_metric(key, _buckets(one), one.spans.total / 1e9)
            flying.add_metric(key, one.in_flight)
            for reason, count in one.left_out.items():
                rest.add_metric([*key, reason], count)
        yield from (spans, flying, rest)


def _counters(
    name: str, summary: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], int]]
) -> Metric:
    family = CounterMetricFamily(name, summary, labels=labels)
    for key, number in rows:
        family.add_metric(_texts(key), number)
    return family


def _texts(key: Sequence[str]) -> list[str]:
    return [readable(text) for text in key]


def _buckets(measured: Measured) -> list[tuple[str, float]]:
    """Return each bound in seconds, and how many latencies are at or below it."""
    bounds = [repr(bound / 1e9) for bound in BOUNDS_NS]
    return [*zip(bounds, measured.cumulated(), strict=True), ("+Inf", measured.spans.count)]


class MetricsServer:
    """Serves figures by HTTP until it is closed; ``url`` is where.

    Raises:
        QtctlError: it cannot listen there.
    """

    def __init__(self, meters: Meters, host: str, port: int, facts: Facts) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Figures(meters, facts))
        shown = f"[{host}]" if ":" in host else host
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise QtctlError(
                f"cannot listen on {shown}:{port}: {error.strerror or error}",
                hint=f"--listen {shown}:{port + 1 if 0 < port < 65535 else 0}",
            ) from error
        self.url = f"http://{shown}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
