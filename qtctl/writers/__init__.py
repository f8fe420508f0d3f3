"""Output formats: one module or folder each, and a row in ``table.py``."""
