"""The verbs, one module each, and what they share."""
