"""Consoles: they draw what the verbs and the session give them, and own no session."""
