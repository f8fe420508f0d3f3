"""The simple backend: QEMU's binary trace file."""
