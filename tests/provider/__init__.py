"""Small programs that stand in for QEMU where a tracer needs a process to look at."""
