"""Export to the Common Trace Format (CTF) 1.8, a folder."""
