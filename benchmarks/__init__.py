"""Benchmarks, each against a peer in the same run; list: ``python -m benchmarks --help``."""
