"""Text output: escaping, colour, tables, bars, units. Pure formatting, no I/O."""
