"""The kernel's trace buffers: tracefs, its pages as the kernel keeps them, and records in order."""
