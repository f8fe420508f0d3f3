"""Fuzz targets: each runs for as long as it is told, from captures and a seed."""
