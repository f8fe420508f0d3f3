"""Records as columns: batches, decoding, filters and text."""
