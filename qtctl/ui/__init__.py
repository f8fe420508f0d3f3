"""Terminal interfaces: the prompt, the full-screen view, completion. They own no session."""
