"""Turns accepted patterns into the YAML that allows exactly them."""
