"""Export to Perfetto: one file of TrackEvent packets."""
