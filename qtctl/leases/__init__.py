"""Leases: what qtctl changed on a guest, the state before it, and how it is restored."""
