"""The dtrace backend: QEMU's USDT probes, followed by uprobes of the kernel."""
