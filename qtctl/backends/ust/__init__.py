"""The ust backend: LTTng-UST tracepoints, read from the packets that LTTng writes."""
