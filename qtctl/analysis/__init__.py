"""Figures from records: rates, counts, distributions, pairs, latencies, comparisons of two runs."""
