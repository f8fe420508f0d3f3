"""A session on one guest: streams, filters, guards, triggers, and replay of files."""
