"""Writes verdicts in the formats of other programs: one file a format, plain functions from a result to a text."""
