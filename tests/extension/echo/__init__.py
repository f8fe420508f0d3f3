"""The echo backend: lines of the file that ``$QTCTL_ECHO`` names, in the form of QEMU's log."""
