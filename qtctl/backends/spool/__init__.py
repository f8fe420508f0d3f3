"""Spools: bounded private files that QEMU writes and qtctl reads, and other growing files."""
