"""Output formats: a module or folder for each."""
