"""Feeds: for each backend, the source and the decoder joined, and what they hold on a guest."""
