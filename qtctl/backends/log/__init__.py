"""The log backend: lines in QEMU's log, followed in a file or through a spool."""
