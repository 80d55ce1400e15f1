"""Judges policies against recorded traffic, proposes them, and takes them from audit to enforcement."""
