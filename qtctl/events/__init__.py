"""Trace events by name: patterns, declarations, sets, and the leases that give them back."""
