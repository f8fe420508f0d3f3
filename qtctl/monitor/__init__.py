"""Reaching a guest: addresses, running guests, the QMP client, and lending a monitor."""
