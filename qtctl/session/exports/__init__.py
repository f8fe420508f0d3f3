"""Files that other tools read: one module a format that is more than lines of text."""
