"""Where QEMU sends events: one module a backend, and how to tell which ones a guest has."""
