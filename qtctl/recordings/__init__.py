"""Recordings (.qtr): the file format, a recorder and a reader."""
