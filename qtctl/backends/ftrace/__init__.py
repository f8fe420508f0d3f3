"""The ftrace backend: QEMU's text in the kernel's trace_marker, read from a tracefs instance."""
