"""Sending records, spans and figures to a receiver of OTLP, the protocol of OpenTelemetry."""
