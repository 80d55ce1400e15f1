"""Judges network policies as the engines do, from YAML it reads by itself."""
