"""SQL over files of records, by DuckDB."""
