"""The way to a guest: addresses, the QMP client, and which guests run."""
