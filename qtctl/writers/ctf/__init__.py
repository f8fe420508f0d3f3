"""Common Trace Format 1.8, written as a folder."""
