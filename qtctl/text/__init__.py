"""Text for people: escaping, colour, tables and record lines. Pure formatting, no I/O."""
