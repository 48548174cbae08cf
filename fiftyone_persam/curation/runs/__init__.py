"""Runs: their record, fields, files, names and lease."""
