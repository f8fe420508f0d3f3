"""The ust backend: LTTng-UST tracepoints, read from an LTTng live session."""
