"""Records in columns: batches, event tables, printf inversion, filters, Arrow, JSON objects."""
