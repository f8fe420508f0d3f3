"""Files that were written earlier: for each kind, how it is opened and read."""
