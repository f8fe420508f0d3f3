"""The dtrace backend: QEMU's USDT probes, read through bpftrace."""
