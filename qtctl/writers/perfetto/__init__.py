"""Perfetto traces: TrackEvent packets."""
