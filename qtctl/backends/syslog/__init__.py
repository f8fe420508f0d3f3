"""The syslog backend: QEMU's lines in the system log, read from a daemon's file or the journal."""
