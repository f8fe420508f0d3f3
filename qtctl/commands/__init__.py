"""Every verb once; the command line, help and completion come from the same row."""
