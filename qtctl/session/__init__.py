"""The two planes joined: attaching to a guest, leases on it, and following what it says."""
