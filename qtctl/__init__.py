"""Switch QEMU's trace events on a running guest and read what they say."""
