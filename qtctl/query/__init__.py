"""Queries: SQL over files of records, run by DuckDB."""
