"""Trace events: their declarations and states, and the patterns and sets that select them."""
