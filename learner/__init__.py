"""Turns recordings into patterns, label pair by label pair, each with its evidence and a decision."""
